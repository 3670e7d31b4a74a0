// Package source follows one branch of a git repository: it asks where the branch is, and
// puts the tree of one commit into a folder.
//
// Promises: Head is one ref advertisement and nothing else; Fetch is a fresh clone of depth 1
// of exactly the commit it was asked for, into a folder of its own. Nothing is shelled out to,
// so neither git nor ssh need be installed. SSH servers are always checked against known_hosts.
// What a server sends is bounded before it is read, and what a commit holds before it is
// written. Errors never contain a credential.
//
// Not goals: history, pushing, submodules (noted and left out), git LFS (noted, and refused
// where the spec file itself is a pointer), the aliases of ~/.ssh/config.
package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
)

// Defaults of Options.
const (
	DefaultRef  = "main"
	DefaultPath = "amlaks.yaml"
)

const (
	// headTimeout bounds a ref advertisement: tens of kilobytes, so only a dead server is slower.
	headTimeout = 30 * time.Second
	// fetchTimeout bounds a clone: the whole of DefaultLimits at 2 MiB/s.
	fetchTimeout = 10 * time.Minute
	// dialTimeout bounds a TCP connect, as net/http's default transport does more generously (30 s).
	dialTimeout = 10 * time.Second
)

// Options say what to follow.
type Options struct {
	// URL is https://host/path, ssh://user@host/path or user@host:path. http:// is for loopback.
	// It must not contain a password.
	URL string
	// Ref is a branch, a tag or a full name that starts with refs/; DefaultRef when empty.
	Ref string
	// Path is the spec file inside the repository, with slashes; DefaultPath when empty.
	Path string
	Auth Auth
	// PlainHTTP allows http:// beyond loopback, without credentials: whoever is on the way
	// can then choose what is deployed.
	PlainHTTP bool
	// Limits bound what a commit may hold; zero fields are those of DefaultLimits.
	Limits Limits
	// Log gets what is left out of a tree; nil discards it.
	Log *slog.Logger
}

// Auth is how to sign in. None of it is ever printed.
type Auth struct {
	// Username and Password are for HTTP. A token goes where its server expects it, mostly
	// into Password with any Username.
	Username string
	Password string
	// SSHKeyFile is an unencrypted private key; when empty, the agent at SSH_AUTH_SOCK is asked.
	SSHKeyFile string
	// KnownHostsFile lists the keys of SSH servers; when empty, ~/.ssh/known_hosts and
	// /etc/ssh/ssh_known_hosts.
	KnownHostsFile string
}

// Limits bound a commit's tree.
type Limits struct {
	Files     int   // regular files and links
	FileBytes int64 // of a single file
	Bytes     int64 // of all files; the compressed pack must fit as well
}

// DefaultLimits leave room for a small model beside the spec; a bigger one belongs into the
// workspace's registry.
func DefaultLimits() Limits {
	return Limits{Files: 20_000, FileBytes: 256 << 20, Bytes: 1 << 30}
}

// Revision is one commit as found under a ref.
type Revision struct {
	Hash string `json:"hash"` // 40 hex digits
	Ref  string `json:"ref"`  // full name, such as refs/heads/main
}

// Source follows one ref of one repository. It is safe for concurrent use.
type Source struct {
	options Options
	remote  *remote
	log     *slog.Logger
}

// announceMultiACK makes go-git say that it can do multi_ack. Azure DevOps answers any client
// that does not with 400 TF401041 (go-git#64). In v5 the list of what not to say is a variable
// of the process and has no option, so it is set once, by the first New and not by merely
// importing this package. It is true as long as nothing is negotiated, which is why Fetch
// always clones afresh: without haves the answer to multi_ack is the same single NAK.
var announceMultiACK = sync.OnceFunc(func() {
	transport.UnsupportedCapabilities = []capability.Capability{capability.ThinPack}
})

// New checks the options. It does not connect.
func New(o Options) (*Source, error) {
	if o.Ref == "" {
		o.Ref = DefaultRef
	}
	if o.Path == "" {
		o.Path = DefaultPath
	}
	if !filepath.IsLocal(filepath.FromSlash(o.Path)) {
		return nil, fmt.Errorf("git path %q: must be relative and inside the repository", o.Path)
	}
	defaults := DefaultLimits()
	if o.Limits.Files <= 0 {
		o.Limits.Files = defaults.Files
	}
	if o.Limits.FileBytes <= 0 {
		o.Limits.FileBytes = defaults.FileBytes
	}
	if o.Limits.Bytes <= 0 {
		o.Limits.Bytes = defaults.Bytes
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	announceMultiACK()
	remote, err := newRemote(o)
	if err != nil {
		return nil, err
	}
	return &Source{options: o, remote: remote, log: o.Log}, nil
}

// Path is where the spec file is inside a fetched folder, with slashes.
func (s *Source) Path() string { return s.options.Path }

// String is the address, without credentials, and the ref.
func (s *Source) String() string { return s.remote.name + " (" + s.options.Ref + ")" }

// Head asks where the ref is: one ref advertisement.
func (s *Source) Head(ctx context.Context) (Revision, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, headTimeout, fmt.Errorf("no answer within %s", headTimeout))
	defer cancel()
	session, err := s.remote.open(ctx)
	if err != nil {
		return Revision{}, s.explain(ctx, "polling", err)
	}
	defer session.Close()
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err != nil {
		return Revision{}, s.explain(ctx, "polling", err)
	}
	found, err := resolve(refs, s.options.Ref)
	if err != nil {
		return Revision{}, s.explain(ctx, "polling", err)
	}
	return found.revision, nil
}

// MovedError says that the ref no longer is where Head saw it. Ask Head again.
type MovedError struct {
	From, To Revision // To.Hash is empty when the server did not say
}

func (e *MovedError) Error() string {
	to := e.To.Hash
	if to == "" {
		to = "somewhere else"
	}
	return fmt.Sprintf("%s has moved from %s to %s", e.From.Ref, e.From.Hash, to)
}

// InvalidTreeError says that a commit cannot be used, whoever asks for it and however often.
type InvalidTreeError struct {
	Hash string
	Path string // inside the repository; may be empty
	Err  error
}

func (e *InvalidTreeError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("commit %.12s: %v", e.Hash, e.Err)
	}
	return fmt.Sprintf("commit %.12s: %s: %v", e.Hash, e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *InvalidTreeError) Unwrap() error { return e.Err }

// Fetch puts the tree of rev, without history, into dir, which must not exist. It leaves
// nothing behind when it fails: with a *MovedError when the ref is elsewhere by now, with an
// *InvalidTreeError when the commit breaks a limit, lacks the spec file or reaches outside.
func (s *Source) Fetch(ctx context.Context, rev Revision, dir string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, fmt.Errorf("not done within %s", fetchTimeout))
	defer cancel()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("fetching %s: %w", s.remote.name, err)
	}
	objects, err := os.MkdirTemp(filepath.Dir(dir), ".objects-*")
	if err != nil {
		return errors.Join(fmt.Errorf("fetching %s: %w", s.remote.name, err), os.Remove(dir))
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(objects))
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	storage, err := s.clone(ctx, rev, objects)
	if err != nil {
		return s.explain(ctx, "fetching", err)
	}
	defer storage.Close()
	left, err := checkout(ctx, storage, rev.Hash, dir, s.options.Path, s.options.Limits)
	if err != nil {
		return s.explain(ctx, "checking out", err)
	}
	slices.Sort(left)
	for _, note := range left {
		s.log.Warn("left out of the tree", "revision", rev.Hash, "what", note)
	}
	return nil
}
