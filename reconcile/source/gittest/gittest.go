// Package gittest serves real git repositories to tests: over HTTP by git http-backend, over
// SSH by git upload-pack. It needs the git binary, and skips the test without.
package gittest

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Repo is a bare repository and a work tree that pushes to it.
type Repo struct {
	t    testing.TB
	Root string // what a server serves; the repository is Root/repo.git
	work string
}

// New makes an empty repository whose branch is main.
func New(t testing.TB) *Repo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("SKIPPED: no git binary to serve repositories with")
	}
	dir := t.TempDir()
	r := &Repo{t: t, Root: filepath.Join(dir, "root"), work: filepath.Join(dir, "work")}
	r.git(dir, "init", "-q", "--bare", "-b", "main", filepath.Join(r.Root, "repo.git"))
	r.git(dir, "init", "-q", "-b", "main", r.work)
	r.Git("remote", "add", "origin", filepath.Join(r.Root, "repo.git"))
	return r
}

// Git runs git in the work tree and gives its output.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.git(r.work, args...)
}

func (r *Repo) git(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// Write puts a file into the work tree.
func (r *Repo) Write(name, content string) {
	r.t.Helper()
	file := filepath.Join(r.work, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// Link puts a symbolic link into the work tree.
func (r *Repo) Link(name, target string) {
	r.t.Helper()
	if err := os.Symlink(target, filepath.Join(r.work, filepath.FromSlash(name))); err != nil {
		r.t.Fatal(err)
	}
}

// Push commits everything in the work tree, pushes it to main by force, and gives its hash.
func (r *Repo) Push(message string) string {
	r.t.Helper()
	r.Git("add", "-A")
	r.Git("commit", "-q", "--allow-empty", "-m", message)
	r.Git("push", "-q", "--force", "origin", "HEAD:main")
	return r.Git("rev-parse", "HEAD")
}

// Commit writes amlaks.yaml and pushes it.
func (r *Repo) Commit(spec string) string {
	r.t.Helper()
	r.Write("amlaks.yaml", spec)
	return r.Push("spec")
}

// HTTP is a smart HTTP server of a Repo's root.
type HTTP struct {
	URL string // of the repository

	mu       sync.Mutex
	requests []string
	down     bool
	user     string
	password string
}

// ServeHTTP serves the repository on loopback until the test ends.
func (r *Repo) ServeHTTP() *HTTP {
	r.t.Helper()
	path := r.git(r.Root, "--exec-path")
	backend := filepath.Join(path, "git-http-backend")
	if _, err := os.Stat(backend); err != nil {
		r.t.Skip("SKIPPED: no git http-backend to serve repositories with")
	}
	s := &HTTP{}
	handler := &cgi.Handler{Path: backend, Dir: r.Root,
		Env: []string{"GIT_PROJECT_ROOT=" + r.Root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null"}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, fmt.Sprintf("%s %s", q.Method, q.URL.RequestURI()))
		down, user, password := s.down, s.user, s.password
		s.mu.Unlock()
		if down {
			http.Error(w, "down for a while", http.StatusBadGateway)
			return
		}
		name, word, _ := q.BasicAuth()
		if password != "" && (name != user || subtle.ConstantTimeCompare([]byte(word), []byte(password)) == 0) {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, q)
	}))
	r.t.Cleanup(server.Close)
	s.URL = server.URL + "/repo.git"
	return s
}

// Require makes the server ask for a user and a password.
func (s *HTTP) Require(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.password = user, password
}

// Down makes the server answer 502, or serve again.
func (s *HTTP) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Requests gives what was asked since the last call, as "GET /repo.git/info/refs?service=...".
func (s *HTTP) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	requests := s.requests
	s.requests = nil
	return requests
}
