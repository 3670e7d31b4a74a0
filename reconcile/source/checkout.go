package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// streamedAbove keeps big files out of memory: they are inflated from disk to disk.
	streamedAbove = 1 << 20
	// objectCache holds trees and delta bases while a tree is written.
	objectCache = 8 * cache.MiByte
	// maxLink is Linux's PATH_MAX.
	maxLink = 4096
	// maxDepth bounds how deep folders nest.
	maxDepth = 64
)

// lfsPointer begins every pointer file (git-lfs/docs/spec.md).
var lfsPointer = []byte("version https://git-lfs.github.com/spec/v1")

// clone fetches the one commit, without history, into an object store in dir.
func (s *Source) clone(ctx context.Context, rev Revision, dir string) (*filesystem.Storage, error) {
	session, err := s.remote.open(ctx)
	if err != nil {
		return nil, err
	}
	defer session.Close()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, err
	}
	found, err := resolve(refs, s.options.Ref)
	if err != nil {
		return nil, err
	}
	if found.revision.Hash != rev.Hash {
		return nil, &MovedError{From: rev, To: found.revision}
	}
	request := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	request.Wants = []plumbing.Hash{found.want}
	if refs.Capabilities.Supports(capability.Shallow) {
		request.Depth = packp.DepthCommits(1)
		if err := request.Capabilities.Set(capability.Shallow); err != nil {
			return nil, err
		}
	}
	if refs.Capabilities.Supports(capability.NoProgress) {
		if err := request.Capabilities.Set(capability.NoProgress); err != nil {
			return nil, err
		}
	}
	response, err := session.UploadPack(ctx, request)
	if err != nil {
		return nil, s.notOurs(err, rev)
	}
	defer response.Close()
	var pack io.Reader = response
	switch {
	case request.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, response)
	case request.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, response)
	}
	pack = &limitedReader{pack, s.options.Limits.Bytes, "the pack"}
	storage := filesystem.NewStorageWithOptions(osfs.New(dir), cache.NewObjectLRU(objectCache),
		filesystem.Options{ExclusiveAccess: true, LargeObjectThreshold: streamedAbove})
	if err := packfile.UpdateObjectStorage(storage, pack); err != nil {
		if large := (*tooLargeError)(nil); errors.As(err, &large) {
			err = &InvalidTreeError{Hash: rev.Hash, Err: fmt.Errorf("%w: %d bytes", large, s.options.Limits.Bytes)}
		}
		return nil, errors.Join(err, storage.Close())
	}
	return storage, nil
}

// notOurs recognises the race in which the ref moves between its advertisement and the pack.
func (s *Source) notOurs(err error, rev Revision) error {
	if strings.Contains(err.Error(), "not our ref") {
		return &MovedError{From: rev}
	}
	return err
}

// tree is one checkout being written.
type tree struct {
	ctx     context.Context
	storage *filesystem.Storage
	hash    string
	root    *os.Root
	limits  Limits
	files   int
	bytes   int64
	links   []link
	left    []string // what was not written, or not as its author may think
	lfs     map[string]bool
}

type link struct{ name, target string }

// checkout writes the commit's tree into dir and returns what it has left out. All writing
// goes through an os.Root, so that nothing a tree says can reach outside dir, and links
// come last, so that nothing is written through one.
func checkout(ctx context.Context, storage *filesystem.Storage, hash, dir, specPath string, limits Limits) ([]string, error) {
	commit, err := object.GetCommit(storage, plumbing.NewHash(hash))
	if err != nil {
		return nil, fmt.Errorf("commit %s: %w", hash, err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	t := &tree{ctx: ctx, storage: storage, hash: hash, root: root, limits: limits, lfs: map[string]bool{}}
	if err := t.folder("", commit.TreeHash, 0); err != nil {
		return nil, err
	}
	for _, l := range t.links {
		if err := root.Symlink(l.target, filepath.FromSlash(l.name)); err != nil {
			return nil, t.written(l.name, err)
		}
	}
	for _, l := range t.links {
		// Only following a link tells where a chain of them ends. Dangling is harmless.
		if _, err := root.Stat(filepath.FromSlash(l.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, t.invalid(l.name, fmt.Errorf("the link to %q leaves the repository", l.target))
		}
	}
	info, err := root.Stat(filepath.FromSlash(specPath))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, t.invalid(specPath, errors.New("there is no such file in this commit"))
	case err != nil:
		return nil, t.invalid(specPath, err)
	case !info.Mode().IsRegular():
		return nil, t.invalid(specPath, errors.New("is not a file"))
	case t.lfs[specPath]:
		return nil, t.invalid(specPath, errors.New("is a git LFS pointer; commit the file itself"))
	}
	return t.left, nil
}

func (t *tree) invalid(name string, err error) error {
	return &InvalidTreeError{Hash: t.hash, Path: name, Err: err}
}

// written explains a failed write: what the tree brought about is the commit's fault, the
// rest (a full disk) is this machine's and may pass.
func (t *tree) written(name string, err error) error {
	if errors.Is(err, fs.ErrExist) || errors.Is(err, syscall.ENAMETOOLONG) {
		return t.invalid(name, err)
	}
	return fmt.Errorf("writing %s: %w", name, err)
}

func (t *tree) folder(name string, hash plumbing.Hash, depth int) error {
	if depth > maxDepth {
		return t.invalid(name, fmt.Errorf("more than %d folders deep", maxDepth))
	}
	entries, err := object.GetTree(t.storage, hash)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	for _, entry := range entries.Entries {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		full := path.Join(name, entry.Name)
		if entry.Name == "" || entry.Name == "." || entry.Name == ".." || strings.EqualFold(entry.Name, ".git") ||
			strings.ContainsAny(entry.Name, "/\\\x00") {
			return t.invalid(name, fmt.Errorf("name %q is not allowed", entry.Name))
		}
		switch entry.Mode {
		case filemode.Dir:
			// Counted as well: empty folders are cheap to commit and not to write.
			if err := t.count(full, 0); err != nil {
				return err
			}
			if err := t.root.Mkdir(filepath.FromSlash(full), 0o755); err != nil {
				return t.written(full, err)
			}
			err = t.folder(full, entry.Hash, depth+1)
		case filemode.Submodule:
			t.left = append(t.left, full+": submodules are not fetched")
		case filemode.Symlink:
			err = t.link(full, entry.Hash)
		case filemode.Regular, filemode.Deprecated:
			err = t.file(full, entry.Hash, 0o644)
		case filemode.Executable:
			err = t.file(full, entry.Hash, 0o755)
		default:
			err = t.invalid(full, fmt.Errorf("unknown mode %s", entry.Mode))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count refuses what breaks a limit, before anything of it is read.
func (t *tree) count(name string, size int64) error {
	t.files++
	t.bytes += size
	switch {
	case t.files > t.limits.Files:
		return t.invalid(name, fmt.Errorf("more than %d files", t.limits.Files))
	case size > t.limits.FileBytes:
		return t.invalid(name, fmt.Errorf("has %d bytes, more than the %d allowed in a file", size, t.limits.FileBytes))
	case t.bytes > t.limits.Bytes:
		return t.invalid(name, fmt.Errorf("the tree has more than the %d bytes allowed", t.limits.Bytes))
	}
	return nil
}

func (t *tree) file(name string, hash plumbing.Hash, mode fs.FileMode) (err error) {
	size, err := t.storage.EncodedObjectSize(hash)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := t.count(name, size); err != nil {
		return err
	}
	blob, err := object.GetBlob(t.storage, hash)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	reader, err := blob.Reader()
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	defer reader.Close()
	f, err := t.root.OpenFile(filepath.FromSlash(name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return t.written(name, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head := make([]byte, len(lfsPointer))
	n, err := io.ReadFull(reader, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if bytes.Equal(head[:n], lfsPointer) {
		t.lfs[name] = true
		t.left = append(t.left, name+": git LFS pointers are left as they are")
	}
	if _, err := f.Write(head[:n]); err != nil {
		return err
	}
	_, err = io.Copy(f, io.LimitReader(reader, size))
	return err
}

func (t *tree) link(name string, hash plumbing.Hash) error {
	size, err := t.storage.EncodedObjectSize(hash)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	if err := t.count(name, size); err != nil {
		return err
	}
	if size > maxLink {
		return t.invalid(name, errors.New("the link is too long"))
	}
	blob, err := object.GetBlob(t.storage, hash)
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	reader, err := blob.Reader()
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	defer reader.Close()
	target, err := io.ReadAll(io.LimitReader(reader, maxLink))
	if err != nil {
		return fmt.Errorf("reading %s: %w", name, err)
	}
	to := string(target)
	if path.IsAbs(to) || !filepath.IsLocal(path.Join(path.Dir(name), to)) {
		return t.invalid(name, fmt.Errorf("the link to %q leaves the repository", to))
	}
	t.links = append(t.links, link{name, to})
	return nil
}
