package git

import (
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/gliderlabs/ssh"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/traffic"
)

// prepareSSH reads or makes the keys of server and client.
func (s *Server) prepareSSH(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.ClientKey, s.KnownHosts = filepath.Join(dir, "id_ed25519"), filepath.Join(dir, "known_hosts")
	host, err := key(filepath.Join(dir, "host_ed25519"))
	if err != nil {
		return err
	}
	client, err := key(s.ClientKey)
	if err != nil {
		return err
	}
	s.hostKey = host.PublicKey().Marshal()
	s.ssh = &ssh.Server{
		HostSigners: []ssh.Signer{host},
		Handler:     s.session,
		PublicKeyHandler: func(_ ssh.Context, given ssh.PublicKey) bool {
			return ssh.KeysEqual(given, client.PublicKey())
		},
	}
	return nil
}

func key(name string) (gossh.Signer, error) {
	content, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		_, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			return nil, err
		}
		block, err := gossh.MarshalPrivateKey(private, "amlaks sandbox")
		if err != nil {
			return nil, err
		}
		content = pem.EncodeToMemory(block)
		if err := files.Write(name, content, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	signer, err := gossh.ParsePrivateKey(content)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return signer, nil
}

// Announce writes the known_hosts file for the address that ServeSSH will listen on.
func (s *Server) Announce(address string) error {
	public, err := gossh.ParsePublicKey(s.hostKey)
	if err != nil {
		return err
	}
	return files.Write(s.KnownHosts, []byte(knownhosts.Line([]string{knownhosts.Normalize(address)}, public)+"\n"), 0o600)
}

// ServeSSH serves until Close.
func (s *Server) ServeSSH(listener net.Listener) error {
	if err := s.ssh.Serve(listener); !errors.Is(err, ssh.ErrServerClosed) {
		return err
	}
	return nil
}

// session runs `git-upload-pack '/NAME.git'` or git-receive-pack, and nothing else.
func (s *Server) session(session ssh.Session) {
	command := session.Command()
	entry := traffic.Entry{Time: time.Now().UTC(), Service: traffic.Git, Method: "SSH"}
	code := 1
	defer func() {
		if entry.Status == 0 && code == 0 {
			entry.Status = 200
		}
		entry.DurationMS = float64(time.Since(entry.Time).Microseconds()) / 1000
		s.traffic.Add(entry)
		_ = session.Exit(code) // the client has gone away
	}()
	if len(command) != 2 || !slices.Contains([]string{"git-upload-pack", "git-receive-pack"}, command[0]) {
		entry.Status = 400
		fmt.Fprintln(session.Stderr(), "only git-upload-pack and git-receive-pack are served")
		return
	}
	entry.Path = "/" + command[0] + command[1]
	if fault := s.traffic.Take(traffic.Git, "SSH", entry.Path); fault != nil {
		entry.Fault, entry.Status = fault.String(), fault.Status
		if fault.Stall == 0 {
			return
		}
		select {
		case <-time.After(time.Duration(fault.Stall)):
		case <-session.Context().Done():
			return
		}
	}
	dir, err := s.folder(command[1])
	if err != nil {
		entry.Status = 404
		fmt.Fprintln(session.Stderr(), err)
		return
	}
	run := exec.CommandContext(session.Context(), filepath.Join(s.execPath, command[0]), dir)
	run.Env = s.environment()
	for _, variable := range session.Environ() {
		// Protocol version 2: without it a fetch lists every ref.
		if value, ok := protocol(variable); ok {
			run.Env = append(run.Env, "GIT_PROTOCOL="+value)
		}
	}
	if err := pipe(run, session); err != nil {
		entry.Status = 500
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			code = max(exit.ExitCode(), 1)
		}
		return
	}
	code = 0
}

// protocol takes the value of GIT_PROTOCOL, when it is one of git's.
func protocol(variable string) (string, bool) {
	for _, value := range []string{"version=0", "version=1", "version=2"} {
		if variable == "GIT_PROTOCOL="+value {
			return value, true
		}
	}
	return "", false
}

// pipe runs a command on a session. Its stdin is copied apart: a client may leave its side
// open after git is done, and Wait would wait for it.
func pipe(run *exec.Cmd, session ssh.Session) error {
	stdin, err := run.StdinPipe()
	if err != nil {
		return err
	}
	run.Stdout, run.Stderr = session, session.Stderr()
	if err := run.Start(); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(stdin, session) // ends with the session
		stdin.Close()
	}()
	return run.Wait()
}
