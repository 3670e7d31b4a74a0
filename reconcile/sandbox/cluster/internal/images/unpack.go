package images

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// architecture is the machine's, as images name it.
const architecture = runtime.GOARCH

// Whiteouts of the OCI image specification, "Layer": .wh.NAME takes NAME of
// the layers below away, .wh..wh..opq all of its folder.
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// A layer may hold this many bytes for each byte of its compressed size that
// the manifest states, and at least minUnpacked. Real layers stay below 20; what
// goes beyond is made to fill a disk.
const (
	maxRatio    = 200
	minUnpacked = 64 << 20
)

// unpackLayer applies one layer to the folder. Nothing outside of the folder is
// touched, whatever links lie there (os.Root).
func (s *Store) unpackLayer(dir string, layer v1.Layer) error {
	size, err := layer.Size()
	if err != nil {
		return err
	}
	digest, err := layer.Digest()
	if err != nil {
		return err
	}
	// The content is checked against the digest as it is read.
	body, err := layer.Uncompressed()
	if err != nil {
		return fmt.Errorf("layer %s: %w", digest, err)
	}
	defer body.Close()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	limit := max(size*maxRatio, minUnpacked)
	bounded := &io.LimitedReader{R: body, N: limit + 1}
	u := unpacker{root: root, base: s.OwnerBase, left: limit,
		fresh: map[string]bool{}, dirs: map[string]*tar.Header{}, resolved: map[string]string{}}
	err = u.read(tar.NewReader(bounded))
	if err == nil {
		// The rest, padding, makes the digest complete.
		_, err = io.Copy(io.Discard, bounded)
	}
	// A tar that is cut between two entries reads like one that ends there.
	if bounded.N <= 0 || errors.Is(err, errTooLarge) {
		err = fmt.Errorf("%w: more than %d bytes in a layer of %d", errTooLarge, limit, size)
	}
	if err != nil {
		return fmt.Errorf("unpack layer %s: %w", digest, err)
	}
	return nil
}

var errTooLarge = errors.New("too large")

type unpacker struct {
	root *os.Root
	base int
	// left is how many bytes the files may still have. What is read does not
	// bound that: a sparse file is larger than its entry.
	left int64
	// fresh are the names this layer has made, and the folders above them:
	// whiteouts spare them.
	fresh map[string]bool
	// dirs get their modes and times last, so that they can be filled.
	dirs map[string]*tar.Header
	// resolved are folders by the names that entries have for them.
	resolved map[string]string
}

func (u *unpacker) read(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, tr); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	for name, h := range u.dirs {
		// A later entry may have put something else in its place.
		if fi, err := u.root.Lstat(name); err != nil || !fi.IsDir() {
			continue
		}
		if err := u.root.Chmod(name, mode(h)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		_ = u.root.Chtimes(name, time.Time{}, h.ModTime)
	}
	return nil
}

// mode is the file's own without device and set-id bits; its owner can always
// read it, and enter and remove it if it is a folder.
func mode(h *tar.Header) fs.FileMode {
	m := fs.FileMode(h.Mode).Perm() | 0o400
	if h.Typeflag == tar.TypeDir {
		m |= 0o700
		m |= fs.FileMode(h.Mode&0o1000) >> 9 * fs.ModeSticky
	}
	return m
}

// clean gives the path inside the root: "" for the root itself, an error for
// what points out of it.
func clean(name string) (string, error) {
	for _, part := range strings.Split(name, "/") {
		if part == ".." {
			return "", errors.New("path leads out of the image")
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// maxLinks is how many symbolic links a path may lead over, as in Linux.
const maxLinks = 40

// resolve gives the folder that dir is, with all links on the way followed as
// a process does whose root is the image: an absolute one begins at the root,
// and above the root is the root. (os.Root alone refuses both, but images
// have /var/run -> /run.) What is not there yet stands for itself.
func (u *unpacker) resolve(dir string) (string, error) {
	if got, ok := u.resolved[dir]; ok {
		return got, nil
	}
	done, rest := "", dir
	for links := 0; rest != ""; {
		var part string
		switch part, rest, _ = strings.Cut(rest, "/"); part {
		case "", ".":
			continue
		case "..":
			done = strings.TrimPrefix(path.Dir("/"+done), "/")
			continue
		}
		next := path.Join(done, part)
		fi, err := u.root.Lstat(next)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err != nil || fi.Mode()&fs.ModeSymlink == 0 {
			done = next
			continue
		}
		if links++; links > maxLinks {
			return "", errors.New("too many symbolic links")
		}
		target, err := u.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			done = ""
		}
		rest = target + "/" + rest
	}
	return done, nil
}

// place gives where the entry of this name goes: its folder, which is made if
// need be, and the last part of its name.
func (u *unpacker) place(name string) (dir, file string, err error) {
	named, file := path.Split(name)
	named = strings.TrimSuffix(named, "/")
	if dir, err = u.resolve(named); err != nil {
		return "", "", err
	}
	if dir != "" && u.resolved[named] == "" {
		if err := u.root.MkdirAll(dir, 0o755); err != nil {
			return "", "", err
		}
		u.resolved[named] = dir
	}
	return dir, file, nil
}

func (u *unpacker) entry(h *tar.Header, body io.Reader) error {
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "" || h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	dir, file, err := u.place(name)
	if err != nil {
		return err
	}
	if file == opaque {
		return u.removeBelow(dir)
	}
	if target, ok := strings.CutPrefix(file, whiteout); ok {
		if target == "" || target == "." || target == ".." {
			return errors.New("whiteout of nothing")
		}
		return u.removeOld(path.Join(dir, target))
	}
	name = path.Join(dir, file)
	for at := name; at != "." && !u.fresh[at]; at = path.Dir(at) {
		u.fresh[at] = true
	}
	old, err := u.root.Lstat(name)
	if err == nil && (h.Typeflag != tar.TypeDir || !old.IsDir()) {
		if err := u.remove(name); err != nil {
			return err
		}
	}
	return u.create(name, h, body)
}

// create makes what the entry describes; nothing but a folder is there.
func (u *unpacker) create(name string, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := u.root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		u.dirs[name] = h
		return u.own(name, h)
	case tar.TypeReg, tar.TypeGNUSparse:
		if u.left -= h.Size; u.left < 0 {
			return errTooLarge
		}
		f, err := u.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, body)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
		if err := u.own(name, h); err != nil {
			return err
		}
		_ = u.root.Chtimes(name, time.Time{}, h.ModTime)
		return u.root.Chmod(name, mode(h))
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.own(name, h)
	case tar.TypeLink:
		target, err := clean(h.Linkname)
		if err != nil {
			return fmt.Errorf("link to %s: %w", h.Linkname, err)
		}
		dir, err := u.resolve(path.Dir("/" + target)[1:])
		if err != nil {
			return err
		}
		return u.root.Link(path.Join(dir, path.Base(target)), name)
	default:
		// Devices and pipes: a container has the devices it is given.
		return nil
	}
}

func (u *unpacker) own(name string, h *tar.Header) error {
	if u.base < 0 {
		return nil
	}
	if h.Uid < 0 || h.Uid >= 1<<16 || h.Gid < 0 || h.Gid >= 1<<16 {
		return fmt.Errorf("owner %d:%d is not below 65536", h.Uid, h.Gid)
	}
	return u.root.Lchown(name, u.base+h.Uid, u.base+h.Gid)
}

// remove removes name and all below it.
func (u *unpacker) remove(name string) error {
	clear(u.resolved) // one of them may be gone
	return u.root.RemoveAll(name)
}

// removeOld removes what lower layers have of name.
func (u *unpacker) removeOld(name string) error {
	if !u.fresh[name] {
		return u.remove(name)
	}
	if fi, err := u.root.Lstat(name); err != nil || !fi.IsDir() {
		return nil
	}
	return u.removeBelow(name)
}

// removeBelow empties a folder of what lower layers put there.
func (u *unpacker) removeBelow(dir string) error {
	f, err := u.root.Open(path.Join(".", dir))
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := u.removeOld(path.Join(dir, n)); err != nil {
			return err
		}
	}
	return nil
}
