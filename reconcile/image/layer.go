package image

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// entry is one file of a layer: where it lies here and where it goes in the image.
type entry struct {
	source string // path here
	target string // path in the image, slashes, no leading slash
	mode   fs.FileMode
	size   int64
	link   string // of a symbolic link
}

// listFiles walks a file or folder into entries below target, sorted by target. It refuses
// what could mean one thing here and another in a container: devices, sockets, links out.
func listFiles(source, target string, skip func(rel string, dir bool) bool) ([]entry, error) {
	root, err := filepath.EvalSymlinks(source)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		if err := acceptable(info); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(source), err)
		}
		return []entry{{source: root, target: path.Join(target, filepath.Base(source)), mode: imageMode(info), size: info.Size()}}, nil
	}
	var entries []entry
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil || rel == "." {
			return err
		}
		slashed := filepath.ToSlash(rel)
		if skip != nil && skip(slashed, d.IsDir()) {
			if d.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := entry{source: file, target: path.Join(target, slashed), mode: imageMode(info), size: info.Size()}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if e.link, err = os.Readlink(file); err != nil {
				return err
			}
			if filepath.IsAbs(e.link) || !filepath.IsLocal(filepath.Join(filepath.Dir(rel), e.link)) {
				return fmt.Errorf("%s: the link to %s leaves the folder", slashed, e.link)
			}
			e.size = 0
		default:
			if err := acceptable(info); err != nil {
				return fmt.Errorf("%s: %w", slashed, err)
			}
		}
		entries = append(entries, e)
		return nil
	})
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.target, b.target) })
	return entries, err
}

// acceptable refuses devices, sockets and pipes, and programs that would lose the user that
// they are meant to run as.
func acceptable(info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("is not a regular file (%s)", info.Mode().Type())
	case info.Mode()&(fs.ModeSetuid|fs.ModeSetgid) != 0:
		return fmt.Errorf("is setuid or setgid (%s), which does not reach the image: take the bit away", info.Mode())
	}
	return nil
}

// imageMode is what remains of a mode: whether anybody may run it. Owners and umasks
// of the machine that builds do not reach the image.
func imageMode(info fs.FileInfo) fs.FileMode {
	if info.Mode()&0o111 != 0 {
		return 0o755
	}
	return 0o644
}

// layer is an uncompressed layer whose bytes come from the files anew each time they are
// asked for, so its digest and its diff ID are one, and nothing is held in memory. Model
// weights hardly compress (gaussian float32 to 0.93 at best), and raw layers never change
// with a compressor's version.
type layer struct {
	entries []entry
	digest  v1.Hash
	size    int64
}

var _ v1.Layer = (*layer)(nil)

// newLayer reads the files once, to know the layer's digest.
func newLayer(ctx context.Context, entries []entry) (*layer, error) {
	l := &layer{entries: entries}
	sum := sha256.New()
	counted := &countingWriter{w: sum}
	if err := writeTar(ctx, counted, entries); err != nil {
		return nil, err
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	l.size = counted.n
	return l, nil
}

func (l *layer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *layer) Size() (int64, error)                 { return l.size, nil }
func (l *layer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *layer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

// Compressed gives the layer as it is stored, which is as it is. The reader checks the
// digest at its end: a file that changed since it was hashed is an error, not another layer.
func (l *layer) Compressed() (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	go func() {
		sum := sha256.New()
		err := writeTar(ctx, io.MultiWriter(writer, sum), l.entries)
		if err == nil && hex.EncodeToString(sum.Sum(nil)) != l.digest.Hex {
			err = errChanged
		}
		writer.CloseWithError(err)
	}()
	return &layerReader{PipeReader: reader, cancel: cancel}, nil
}

type layerReader struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (r *layerReader) Close() error {
	r.cancel()
	return r.PipeReader.Close()
}

var errChanged = errors.New("a file changed while the image was being built")

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// writeTar writes entries, and the folders above them, as a tar that depends on nothing but
// paths, contents and the exec bit.
func writeTar(ctx context.Context, w io.Writer, entries []entry) error {
	archive := tar.NewWriter(w)
	made := map[string]bool{".": true}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeParents(archive, path.Dir(e.target), made); err != nil {
			return err
		}
		if err := writeEntry(archive, e); err != nil {
			return err
		}
	}
	return archive.Close()
}

func writeParents(archive *tar.Writer, dir string, made map[string]bool) error {
	if made[dir] {
		return nil
	}
	if err := writeParents(archive, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch(), Format: tar.FormatPAX})
}

func epoch() time.Time { return time.Unix(0, 0).UTC() }

func writeEntry(archive *tar.Writer, e entry) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: e.target, Mode: int64(e.mode), Size: e.size, ModTime: epoch(), Format: tar.FormatPAX}
	if e.link != "" {
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
		return archive.WriteHeader(header)
	}
	file, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.CopyN(archive, file, e.size); err != nil {
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", e.target, errChanged)
		}
		return err
	}
	if n, _ := file.Read(make([]byte, 1)); n > 0 {
		return fmt.Errorf("%s: %w", e.target, errChanged)
	}
	return nil
}
