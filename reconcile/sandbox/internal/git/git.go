// Package git is the sandbox's git server: bare repositories over HTTP (git http-backend) and
// over SSH, by the git that is installed.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gliderlabs/ssh"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/traffic"
)

// repositoryName is what a repository may be called: it becomes a folder, and an argument.
var repositoryName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$`)

// Server serves the repositories of a folder.
type Server struct {
	ClientKey  string // file of the private key that is let in
	KnownHosts string // file that names the host key

	dir, git, execPath string
	backend            http.Handler
	ssh                *ssh.Server
	hostKey            []byte // its public line
	traffic            *traffic.Log
	logf               func(string, ...any)
}

// New makes the keys, unless they are in keyDir, and finds git.
func New(dir, keyDir string, log *traffic.Log, logf func(string, ...any)) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("the git server needs git: %w", err)
	}
	output, err := exec.Command(git, "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git --exec-path: %w", err)
	}
	s := &Server{dir: dir, git: git, execPath: strings.TrimSpace(string(output)), traffic: log, logf: logf}
	s.backend = &cgi.Handler{
		Path: filepath.Join(s.execPath, "git-http-backend"),
		Env: append(s.environment(), "GIT_PROJECT_ROOT="+dir, "GIT_HTTP_EXPORT_ALL=1",
			// http.receivepack is off for those who do not authenticate; here all may push.
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=http.receivepack", "GIT_CONFIG_VALUE_0=true"),
		Stderr: &lines{logf: logf},
	}
	if err := s.prepareSSH(keyDir); err != nil {
		return nil, err
	}
	return s, nil
}

// environment is that of the git commands: nothing of the user's own settings.
func (s *Server) environment() []string {
	return []string{"PATH=" + filepath.Dir(s.git) + ":" + s.execPath, "HOME=" + s.dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null"}
}

// lines passes what git says on stderr to the log.
type lines struct{ logf func(string, ...any) }

func (l *lines) Write(p []byte) (int, error) {
	l.logf("git: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// Create makes an empty bare repository whose default branch is main; one that exists is
// left as it is. It gives its folder.
func (s *Server) Create(ctx context.Context, name string) (string, error) {
	name = strings.TrimSuffix(name, ".git")
	if !repositoryName.MatchString(name) {
		return "", fmt.Errorf("repository %q: want letters, digits, dashes and underscores", name)
	}
	dir := filepath.Join(s.dir, name+".git")
	if _, err := os.Stat(filepath.Join(dir, "HEAD")); err == nil {
		return dir, nil
	}
	command := exec.CommandContext(ctx, s.git, "init", "--quiet", "--bare", "--initial-branch=main", dir)
	command.Env = s.environment()
	if output, err := command.CombinedOutput(); err != nil {
		return "", fmt.Errorf("git init: %w: %s", err, bytes.TrimSpace(output))
	}
	return dir, nil
}

// Refuse writes an error as text.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	http.Error(w, code+": "+message, status)
}

// folder is that of the repository in a path like /NAME.git or NAME.
func (s *Server) folder(path string) (string, error) {
	name := strings.TrimSuffix(strings.Trim(path, "/"), ".git")
	if !repositoryName.MatchString(name) {
		return "", fmt.Errorf("no repository %q", path)
	}
	dir := filepath.Join(s.dir, name+".git")
	if _, err := os.Stat(dir); err != nil {
		return "", fmt.Errorf("no repository %q", path)
	}
	return dir, nil
}

// ServeHTTP serves git's smart HTTP protocol.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	first, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if _, err := s.folder(first); err != nil || !strings.HasSuffix(first, ".git") {
		http.NotFound(w, r)
		return
	}
	if r.ContentLength < 0 {
		// CGI has no chunked bodies, which git sends from http.postBuffer (1 MiB) on.
		whole, err := spool(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		defer os.Remove(whole.Name())
		defer whole.Close()
		r.Body, r.ContentLength, r.TransferEncoding = whole, whole.size, nil
	}
	s.backend.ServeHTTP(w, r)
}

// maxPush bounds what one push may send.
const maxPush = 2 << 30

// spooled is a request's body in a temporary file.
type spooled struct {
	*os.File
	size int64
}

func spool(body io.Reader) (*spooled, error) {
	file, err := os.CreateTemp("", "push-*")
	if err != nil {
		return nil, err
	}
	size, err := io.Copy(file, io.LimitReader(body, maxPush+1))
	if err == nil && size > maxPush {
		err = fmt.Errorf("a push is %d bytes at the most", maxPush)
	}
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	return &spooled{file, size}, nil
}

// Close ends the SSH server and its sessions.
func (s *Server) Close() {
	if err := s.ssh.Close(); err != nil && !errors.Is(err, ssh.ErrServerClosed) {
		s.logf("close the ssh server: %v", err)
	}
}
