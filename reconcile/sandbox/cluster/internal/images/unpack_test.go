package images

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// entry is one of a layer: a file with text unless kind says otherwise.
type entry struct {
	name string
	kind byte
	text string // of a file; where a link leads
	mode int64  // 0 is 0644, of a folder 0755
}

func file(name, text string) entry    { return entry{name: name, kind: tar.TypeReg, text: text} }
func folder(name string) entry        { return entry{name: name, kind: tar.TypeDir} }
func link(name, target string) entry  { return entry{name: name, kind: tar.TypeSymlink, text: target} }
func hard(name, target string) entry  { return entry{name: name, kind: tar.TypeLink, text: target} }
func gone(name string) entry          { return file(name, "") }
func withMode(e entry, m int64) entry { e.mode = m; return e }

// written is when all entries are from.
var written = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func layer(t *testing.T, entries ...entry) v1.Layer {
	t.Helper()
	var body bytes.Buffer
	w := tar.NewWriter(&body)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, ModTime: written, Format: tar.FormatPAX}
		switch e.kind {
		case tar.TypeReg:
			h.Size = int64(len(e.text))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = e.text
		}
		if h.Mode == 0 {
			h.Mode = 0o644
			if e.kind == tar.TypeDir {
				h.Mode = 0o755
			}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := io.WriteString(w, e.text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layerOf(t, body.Bytes())
}

func layerOf(t *testing.T, body []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// unpack applies the layers to a folder that has a neighbour, and gives both.
func unpack(t *testing.T, layers ...v1.Layer) (root string, err error) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "rootfs")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "neighbour"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		removeAll(root)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 1 {
			t.Errorf("beside the image lie %v, %v", entries, err)
		}
		if body, err := os.ReadFile(filepath.Join(dir, "neighbour")); err != nil || string(body) != "untouched" {
			t.Errorf("the neighbour is %q, %v", body, err)
		}
	})
	s := Store{OwnerBase: -1}
	for _, l := range layers {
		if err := s.unpackLayer(root, l); err != nil {
			return root, err
		}
	}
	return root, nil
}

// tree is what lies in root: a file's text, "/" for a folder, "-> TARGET" for a link.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			out[name] = "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			out[name] = "-> " + target
			return err
		default:
			body, err := os.ReadFile(path)
			out[name] = string(body)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestUnpack(t *testing.T) {
	tests := []struct {
		name   string
		layers [][]entry
		want   map[string]string
	}{
		{"a folder that no entry names", [][]entry{{file("a/b/c", "1")}},
			map[string]string{"a": "/", "a/b": "/", "a/b/c": "1"}},
		{"names with a dot or a slash first", [][]entry{{file("./a", "1"), file("/b", "2"), folder("./")}},
			map[string]string{"a": "1", "b": "2"}},
		{"the later layer counts", [][]entry{{file("a", "1"), file("b", "1")}, {file("a", "2")}},
			map[string]string{"a": "2", "b": "1"}},

		{"whiteout of a file", [][]entry{{file("d/a", "1"), file("d/b", "1")}, {gone("d/.wh.a")}},
			map[string]string{"d": "/", "d/b": "1"}},
		{"whiteout of a folder", [][]entry{{file("d/e/a", "1")}, {gone("d/.wh.e")}},
			map[string]string{"d": "/"}},
		{"whiteout at the root", [][]entry{{file("a", "1")}, {gone(".wh.a")}},
			map[string]string{}},
		{"whiteout of what is not there", [][]entry{{file("a", "1")}, {gone("d/.wh.a")}},
			map[string]string{"a": "1", "d": "/"}},
		{"whiteout removes a link and not what it leads to", [][]entry{{file("a", "1"), link("b", "a")}, {gone(".wh.b")}},
			map[string]string{"a": "1"}},
		{"whiteout before the new file", [][]entry{{file("a", "1")}, {gone(".wh.a"), file("a", "2")}},
			map[string]string{"a": "2"}},
		{"whiteout after the new file", [][]entry{{file("a", "1")}, {file("a", "2"), gone(".wh.a")}},
			map[string]string{"a": "2"}},
		{"whiteout after the new folder", [][]entry{{file("d/old", "1")}, {file("d/new", "2"), gone(".wh.d")}},
			map[string]string{"d": "/", "d/new": "2"}},

		{"opaque folder", [][]entry{{file("d/a", "1"), file("d/e/b", "1"), file("c", "1")}, {folder("d"), gone("d/.wh..wh..opq"), file("d/n", "2")}},
			map[string]string{"c": "1", "d": "/", "d/n": "2"}},
		{"opaque folder after its files", [][]entry{{file("d/a", "1"), file("d/e/old", "1")}, {file("d/e/new", "2"), gone("d/.wh..wh..opq")}},
			map[string]string{"d": "/", "d/e": "/", "d/e/new": "2"}},
		{"opaque root", [][]entry{{file("a", "1"), file("d/b", "1")}, {gone(".wh..wh..opq"), file("n", "2")}},
			map[string]string{"n": "2"}},
		{"opaque spares no lower layer's hidden files", [][]entry{{file("d/.hidden", "1")}, {gone("d/.wh..wh..opq")}},
			map[string]string{"d": "/"}},

		{"hard link", [][]entry{{file("d/a", "1"), hard("b", "d/a"), hard("e/c", "/d/a")}},
			map[string]string{"d": "/", "d/a": "1", "b": "1", "e": "/", "e/c": "1"}},
		{"hard link into a lower layer", [][]entry{{file("a", "1")}, {hard("b", "a")}},
			map[string]string{"a": "1", "b": "1"}},
		{"one of two hard links is replaced", [][]entry{{file("a", "1"), hard("b", "a")}, {file("b", "2")}},
			map[string]string{"a": "1", "b": "2"}},
		{"hard link to a link is a link", [][]entry{{link("a", "nowhere"), hard("b", "a")}},
			map[string]string{"a": "-> nowhere", "b": "-> nowhere"}},

		{"a link is kept as it is", [][]entry{{link("a", "../../etc/shadow"), link("b", "/etc/shadow"), link("c", "d")}},
			map[string]string{"a": "-> ../../etc/shadow", "b": "-> /etc/shadow", "c": "-> d"}},
		{"through a relative link", [][]entry{{folder("usr/lib"), link("lib", "usr/lib")}, {file("lib/a", "1")}},
			map[string]string{"usr": "/", "usr/lib": "/", "usr/lib/a": "1", "lib": "-> usr/lib"}},
		{"through an absolute link", [][]entry{{folder("run"), link("var/run", "/run")}, {file("var/run/a", "1"), hard("b", "var/run/a")}},
			map[string]string{"run": "/", "run/a": "1", "var": "/", "var/run": "-> /run", "b": "1"}},
		{"through a link that leads out", [][]entry{{link("out", "../../../.."), link("d/e", "../../../x")}, {file("out/a", "1"), file("d/e/b", "2")}},
			map[string]string{"out": "-> ../../../..", "a": "1", "d": "/", "d/e": "-> ../../../x", "x": "/", "x/b": "2"}},
		{"through a link to nowhere yet", [][]entry{{link("l", "/new/one")}, {file("l/a", "1")}},
			map[string]string{"l": "-> /new/one", "new": "/", "new/one": "/", "new/one/a": "1"}},
		{"whiteout through a link", [][]entry{{file("run/a", "1"), link("var/run", "/run")}, {gone("var/run/.wh.a")}},
			map[string]string{"run": "/", "var": "/", "var/run": "-> /run"}},
		{"opaque spares what came through a link", [][]entry{{file("run/a", "1"), link("l", "run")}, {file("l/b", "2"), gone("run/.wh..wh..opq")}},
			map[string]string{"run": "/", "run/b": "2", "l": "-> run"}},
		{"a link that is replaced leads nowhere any more", [][]entry{{folder("a"), folder("b"), link("l", "a"), file("l/1", "1"), link("l", "b"), file("l/2", "2")}},
			map[string]string{"a": "/", "a/1": "1", "b": "/", "b/2": "2", "l": "-> b"}},

		{"a file twice", [][]entry{{file("a", "1"), file("a", "2")}}, map[string]string{"a": "2"}},
		{"a folder twice", [][]entry{{folder("d"), file("d/a", "1"), folder("d")}}, map[string]string{"d": "/", "d/a": "1"}},
		{"a file in a folder's place", [][]entry{{folder("d"), file("d/a", "1"), file("d", "2")}}, map[string]string{"d": "2"}},
		{"a folder in a file's place", [][]entry{{file("d", "1"), file("e", "1")}, {folder("d"), file("d/a", "2")}},
			map[string]string{"d": "/", "d/a": "2", "e": "1"}},
		{"a link in a folder's place", [][]entry{{folder("d"), file("d/a", "1"), link("d", "/elsewhere")}}, map[string]string{"d": "-> /elsewhere"}},
		{"a folder in a link's place", [][]entry{{file("e/a", "1"), link("d", "e")}, {folder("d"), file("d/b", "2")}},
			map[string]string{"e": "/", "e/a": "1", "d": "/", "d/b": "2"}},

		{"devices, pipes and global headers are left out", [][]entry{{
			{name: "null", kind: tar.TypeChar}, {name: "disk", kind: tar.TypeBlock}, {name: "pipe", kind: tar.TypeFifo}, file("a", "1")}},
			map[string]string{"a": "1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var layers []v1.Layer
			for _, l := range tt.layers {
				layers = append(layers, layer(t, l...))
			}
			root, err := unpack(t, layers...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, tree(t, root)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestUnpackRefuses(t *testing.T) {
	tests := []struct {
		name    string
		entries []entry
		want    string
	}{
		{"a path that leads out", []entry{file("../neighbour", "1")}, "leads out of the image"},
		{"a path that leads out later", []entry{file("a/../../neighbour", "1")}, "leads out of the image"},
		{"a folder outside", []entry{folder("../../tmp/x")}, "leads out of the image"},
		{"a link outside", []entry{link("../l", "a")}, "leads out of the image"},
		{"a hard link to a file outside", []entry{hard("a", "../neighbour")}, "leads out of the image"},
		{"a hard link through a link that leads out", []entry{link("l", ".."), hard("a", "l/neighbour")}, "no such file"},
		{"a whiteout outside", []entry{gone("../.wh.neighbour")}, "leads out of the image"},
		{"a whiteout of nothing", []entry{file("d/a", "1"), gone("d/.wh.")}, "whiteout of nothing"},
		{"a whiteout of its folder", []entry{file("d/a", "1"), gone("d/.wh..")}, "whiteout of nothing"},
		{"a whiteout of the folder above", []entry{file("d/a", "1"), gone("d/.wh...")}, "whiteout of nothing"},
		{"links in a circle", []entry{link("a", "b"), link("b", "a"), file("a/c", "1")}, "too many symbolic links"},
		{"a file below a file", []entry{file("a", "1"), file("a/b", "1")}, "file exists"},
		{"a hard link to nothing", []entry{hard("a", "b")}, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root, err := unpack(t, layer(t, tt.entries...))
			if err == nil {
				t.Fatalf("unpacked to %v", tree(t, root))
			}
			if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "unpack layer sha256:") {
				t.Errorf("error %q, want %q and the layer", err, tt.want)
			}
		})
	}
}

func TestUnpackModes(t *testing.T) {
	root, err := unpack(t, layer(t,
		withMode(file("suid", "1"), 0o4755), withMode(file("unreadable", "1"), 0o200), withMode(folder("tmp"), 0o1777),
		withMode(folder("closed"), 0o500), file("closed/a", "1"),
		withMode(folder("twice"), 0o755), withMode(folder("twice"), 0o700),
		file("own", "1"), folder("was"), link("was", "own")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]fs.FileMode{"suid": 0o755, "unreadable": 0o600, "tmp": 0o777 | fs.ModeDir | fs.ModeSticky,
		"closed": 0o700 | fs.ModeDir, "twice": 0o700 | fs.ModeDir, "own": 0o644}
	for name, mode := range want {
		fi, err := os.Lstat(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != mode {
			t.Errorf("%s has mode %v, want %v", name, fi.Mode(), mode)
		}
		if !fi.ModTime().Equal(written) {
			t.Errorf("%s is from %v, want %v", name, fi.ModTime(), written)
		}
	}
}

func TestUnpackSize(t *testing.T) {
	// Zeros compress a thousandfold.
	t.Run("a file that is too large", func(t *testing.T) {
		refuseLarge(t, layer(t, file("zeros", strings.Repeat("\x00", minUnpacked))))
	})
	t.Run("files that together are too large", func(t *testing.T) {
		half := strings.Repeat("\x00", minUnpacked/2)
		refuseLarge(t, layer(t, file("a", half), file("b", half)))
	})
	t.Run("a tar that would be cut between two entries", func(t *testing.T) {
		body := make([]byte, minUnpacked+1024) // two blocks of zeros end a tar; what follows is padding
		refuseLarge(t, layerOf(t, body))
	})
	t.Run("a sparse file", func(t *testing.T) { refuseLarge(t, layerOf(t, sparse(t, 1<<40))) })
	t.Run("large enough for the layer's own size", func(t *testing.T) {
		if _, err := unpack(t, layer(t, file("zeros", strings.Repeat("\x00", minUnpacked-2048)))); err != nil {
			t.Error(err)
		}
	})
}

func refuseLarge(t *testing.T, l v1.Layer) {
	t.Helper()
	_, err := unpack(t, l)
	if err == nil || !strings.Contains(err.Error(), "too large: more than 67108864 bytes") {
		t.Errorf("error %v", err)
	}
}

// sparse is a tar with one file of size bytes that are all holes, in GNU's
// format 1.0, which archive/tar reads and does not write: the content begins with
// the map of the pieces that hold data, here an empty one at the end.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	var records, out bytes.Buffer
	for _, r := range []string{"major=1", "minor=0", "name=holes", fmt.Sprintf("realsize=%d", size)} {
		record := " GNU.sparse." + r + "\n"
		fmt.Fprintf(&records, "%d%s", len(record)+2, record)
	}
	content := make([]byte, 512)
	copy(content, fmt.Sprintf("1\n%d\n0\n", size))
	for _, part := range []struct {
		kind byte
		body []byte
	}{{tar.TypeXHeader, records.Bytes()}, {tar.TypeReg, content}} {
		var one bytes.Buffer
		w := tar.NewWriter(&one)
		if err := w.WriteHeader(&tar.Header{Name: "holes", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(part.body))}); err != nil {
			t.Fatal(err)
		}
		// The kind is byte 156, the checksum 148 to 155, taken for spaces in its own sum.
		header := one.Bytes()
		header[156] = part.kind
		copy(header[148:156], "        ")
		sum := 0
		for _, b := range header {
			sum += int(b)
		}
		copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
		out.Write(header)
		out.Write(part.body)
		out.Write(make([]byte, (512-len(part.body)%512)%512))
	}
	out.Write(make([]byte, 1024))
	return out.Bytes()
}
