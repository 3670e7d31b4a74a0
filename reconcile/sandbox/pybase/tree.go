package pybase

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// maxLayerBytes stops a Python with gigabytes beside its standard library from
// filling the memory; a usual one takes 30 to 60 MiB.
const maxLayerBytes = 256 << 20

// tree is what will be in the layer: entries by their absolute path in the image.
type tree struct {
	entries map[string]entry
	bytes   int64
}

type entry struct {
	mode   fs.FileMode // permissions; with ModeDir for a folder
	source string      // of a file: where its content is on this machine
	size   int64
	target string // of a link
}

func newTree() *tree { return &tree{entries: map[string]entry{}} }

func (t *tree) has(name string) bool {
	_, ok := t.entries[name]
	return ok
}

// addFolder adds a folder, and those above it that are missing, readable for all:
// a Python below a private home must be usable by the image's user.
func (t *tree) addFolder(name string, mode fs.FileMode) {
	for above := path.Dir(name); above != "/" && !t.has(above); above = path.Dir(above) {
		t.entries[above] = entry{mode: fs.ModeDir | 0o755}
	}
	t.entries[name] = entry{mode: fs.ModeDir | mode}
}

// addFile adds the file that source leads to, readable for all, and executable for
// all if it is for its owner. A name that is there already stays what it is.
func (t *tree) addFile(name, source string) error {
	if t.has(name) {
		return nil
	}
	real, info, err := realFile(source)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", real)
	}
	if t.bytes += info.Size(); t.bytes > maxLayerBytes {
		return fmt.Errorf("more than %d MiB", maxLayerBytes>>20)
	}
	mode := fs.FileMode(0o644)
	if info.Mode()&0o100 != 0 {
		mode = 0o755
	}
	if parent := path.Dir(name); parent != "/" && !t.has(parent) {
		t.addFolder(parent, 0o755)
	}
	t.entries[name] = entry{mode: mode, source: real, size: info.Size()}
	return nil
}

// addLink adds a symbolic link in a folder that is there, unless name is taken.
func (t *tree) addLink(name, target string) {
	if !t.has(name) {
		t.entries[name] = entry{mode: fs.ModeSymlink | 0o777, target: target}
	}
}

// layer writes the tree as one gzipped layer: sorted, owned by root, without times,
// so that the same files give the same digest.
func (t *tree) layer() (v1.Layer, error) {
	var buffer bytes.Buffer
	buffer.Grow(int(t.bytes) + 2048*len(t.entries))
	w := tar.NewWriter(&buffer)
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		if err := t.entries[name].write(w, strings.TrimPrefix(name, "/")); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buffer.Bytes())), nil },
		// It travels over loopback: time counts, not size.
		tarball.WithCompressionLevel(gzip.BestSpeed),
		tarball.WithCompressedCaching,
	)
}

func (e entry) write(w *tar.Writer, name string) error {
	header := &tar.Header{Name: name, Mode: int64(e.mode.Perm()), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, name+"/"
		// fs.FileMode keeps the sticky bit of /tmp apart; a caller's 01777 arrives as it is.
		header.Mode = int64(e.mode &^ fs.ModeDir)
		return w.WriteHeader(header)
	case e.target != "":
		header.Typeflag, header.Linkname = tar.TypeSymlink, e.target
		return w.WriteHeader(header)
	}
	header.Typeflag, header.Size = tar.TypeReg, e.size
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	// A file that grew since is cut; one that shrank leaves w.Close to complain.
	_, err = io.Copy(w, io.LimitReader(f, e.size))
	return err
}
