package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// cache is a folder of model files, kept by what they contain:
//
//	objects/SHA256     a file; read-only
//	known/BLOB         the SHA-256 of a blob that was fetched once, whole
//	partial/BLOB       a blob that is being fetched, and BLOB.done, its journal
//	trees/MODEL/       files/, a model as it was registered, and manifest.json
//
// BLOB is a hash of a blob's URL and entity tag, so a blob that was written over is another
// one. The files of a tree are hard links to objects: versions that share files share the
// bytes. Everything appears by a rename, so a process that is killed leaves nothing that is
// half done where somebody looks for it.
type cache struct{ dir string }

// unused is how long a tree stays that nobody asked for.
const unused = 30 * 24 * time.Hour

const (
	manifestName = "manifest.json"
	filesName    = "files"
	maxManifest  = 256 << 20
)

// kept is a file of a tree.
type kept struct {
	Path   string    `json:"path"` // in files/, with slashes
	Size   int64     `json:"size"`
	SHA256 string    `json:"sha256"`
	MTime  time.Time `json:"mtime"`
}

func keyOf(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(sum, "%d %s\n", len(part), part)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

func (c cache) object(digest string) string { return filepath.Join(c.dir, "objects", digest) }
func (c cache) known(key string) string     { return filepath.Join(c.dir, "known", key) }
func (c cache) partial(key string) string   { return filepath.Join(c.dir, "partial", key) }
func (c cache) tree(key string) string      { return filepath.Join(c.dir, "trees", key) }

// prepare makes the folders.
func (c cache) prepare() error {
	for _, name := range []string{"objects", "known", "partial", "trees"} {
		if err := os.MkdirAll(filepath.Join(c.dir, name), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// get gives the files of a tree that is whole. One that is not, because somebody wrote into
// it, is put aside.
func (c cache) get(ctx context.Context, key string) (string, bool, error) {
	dir := c.tree(key)
	var files []kept
	file, err := os.Open(filepath.Join(dir, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer file.Close()
	err = json.NewDecoder(io.LimitReader(file, maxManifest)).Decode(&files)
	if err == nil {
		err = check(ctx, filepath.Join(dir, filesName), files)
	}
	if ctx.Err() != nil {
		return "", false, ctx.Err()
	}
	if err != nil {
		return "", false, c.discard(dir)
	}
	now := time.Now()
	return filepath.Join(dir, filesName), true, os.Chtimes(filepath.Join(dir, manifestName), now, now)
}

// check compares a tree with its manifest. A file with the size and time that it was kept with
// has its content; one without is read.
func check(ctx context.Context, dir string, files []kept) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Path))
		info, err := os.Lstat(name)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() != f.Size {
			return fmt.Errorf("%s is not what was kept", f.Path)
		}
		if info.ModTime().Equal(f.MTime) {
			continue
		}
		if digest, err := digestOf(ctx, name); err != nil || digest != f.SHA256 {
			return errors.Join(err, fmt.Errorf("%s is not what was kept", f.Path))
		}
	}
	count := 0
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			count++
		}
		return err
	})
	if err == nil && count != len(files) {
		err = fmt.Errorf("%d files, and %d were kept", count, len(files))
	}
	return err
}

// put makes a tree of objects, and gives its files.
func (c cache) put(key string, files []kept) (string, error) {
	dir, err := os.MkdirTemp(filepath.Join(c.dir, "trees"), ".new-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) // gone already when all went well
	for i := range files {
		target := filepath.Join(dir, filesName, filepath.FromSlash(files[i].Path))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return "", err
		}
		if err := link(c.object(files[i].SHA256), target); err != nil {
			return "", err
		}
		info, err := os.Stat(target)
		if err != nil {
			return "", err
		}
		files[i].MTime = info.ModTime()
	}
	content, err := json.Marshal(files)
	if err != nil {
		return "", err
	}
	if err := writeSynced(filepath.Join(dir, manifestName), content); err != nil {
		return "", err
	}
	final := c.tree(key)
	switch err := os.Rename(dir, final); {
	case err == nil, errors.Is(err, fs.ErrExist): // another process was faster
		return filepath.Join(final, filesName), nil
	default:
		return "", err
	}
}

// link makes a second name for a file, or a copy where a file system has no such links, or no
// more of them.
func link(from, to string) error {
	err := os.Link(from, to)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // gone already when all went well
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Chmod(0o444), out.Sync(), out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), to)
}

// keep makes an object of a file that holds a whole blob, and remembers that it does. The file
// loses its own name last: a process that is killed before that need not fetch the blob again.
func (c cache) keep(ctx context.Context, file *os.File, key, digest string) error {
	if err := file.Sync(); err != nil {
		return err
	}
	object := c.object(digest)
	if there, err := digestOf(ctx, object); err != nil || there != digest { // else another blob has the same content
		if err := os.Remove(object); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := link(file.Name(), object); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	temporary, err := os.CreateTemp(filepath.Join(c.dir, "known"), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already when all went well
	if err := errors.Join(temporary.Close(), writeSynced(temporary.Name(), []byte(digest)), os.Rename(temporary.Name(), c.known(key))); err != nil {
		return err
	}
	return errors.Join(os.Remove(file.Name()), os.Chmod(object, 0o444))
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

// blob gives the digest of a blob that was fetched before; "" if it was not, or if its object
// is no longer what it was.
func (c cache) blob(ctx context.Context, key string, size int64) (string, error) {
	content, err := os.ReadFile(c.known(key))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	digest := string(content)
	if !hexDigest.MatchString(digest) {
		return "", os.Remove(c.known(key))
	}
	name := c.object(digest)
	if info, err := os.Stat(name); err == nil && info.Size() == size {
		if now, err := digestOf(ctx, name); err != nil || now == digest {
			return digest, err
		}
	}
	for _, gone := range []string{c.known(key), name} {
		if err := os.Remove(gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// prune removes what nobody asked for in a long time. What cannot be removed now can be later.
func (c cache) prune(now time.Time) {
	old := func(name string) bool {
		info, err := os.Stat(name)
		return err == nil && now.Sub(info.ModTime()) > unused
	}
	each := func(folder string, visit func(name string)) {
		entries, _ := os.ReadDir(filepath.Join(c.dir, folder))
		for _, e := range entries {
			visit(filepath.Join(c.dir, folder, e.Name()))
		}
	}
	each("trees", func(name string) {
		if manifest := filepath.Join(name, manifestName); old(manifest) || old(name) && !exists(manifest) {
			_ = c.discard(name)
		}
	})
	each("objects", func(name string) {
		var stat unix.Stat_t
		if old(name) && unix.Stat(name, &stat) == nil && stat.Nlink == 1 {
			_ = os.Remove(name)
		}
	})
	each("known", func(name string) {
		digest, err := os.ReadFile(name)
		if old(name) && err == nil && !(hexDigest.Match(digest) && exists(c.object(string(digest)))) {
			_ = os.Remove(name)
		}
	})
	each("partial", func(name string) {
		if old(name) {
			_ = os.Remove(name)
		}
	})
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// discard removes a tree, from under its name first.
func (c cache) discard(dir string) error {
	aside, err := os.MkdirTemp(filepath.Join(c.dir, "trees"), ".old-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(aside)
	if err := os.Rename(dir, filepath.Join(aside, "tree")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func writeSynced(name string, content []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Sync(), file.Close())
}

// digestOf reads a file for its SHA-256.
func digestOf(ctx context.Context, name string) (string, error) {
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, reader{ctx, file}); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
