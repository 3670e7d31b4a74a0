package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxKeyFile is well above any private key.
const maxKeyFile = 64 << 10

type sshAddress struct{ user, host, path string }

// newSSHRemote speaks SSH itself instead of through go-git's transport: that one dials without
// the caller's context, waits for a handshake for ever, and lets ~/.ssh/config rename hosts.
func newSSHRemote(o Options, to sshAddress, name string) (*remote, error) {
	hosts, err := readKnownHosts(o.Auth.KnownHostsFile)
	if err != nil {
		return nil, fmt.Errorf("git URL %s: %w", name, err)
	}
	var key ssh.Signer
	if o.Auth.SSHKeyFile != "" {
		if key, err = readKey(o.Auth.SSHKeyFile); err != nil {
			return nil, fmt.Errorf("git URL %s: %w", name, err)
		}
	} else if os.Getenv("SSH_AUTH_SOCK") == "" {
		return nil, fmt.Errorf("git URL %s: no SSH key file given, and no agent at SSH_AUTH_SOCK", name)
	}
	return &remote{name: name, open: func(ctx context.Context) (transport.UploadPackSession, error) {
		return dialSSH(ctx, to, hosts, key, o.Limits)
	}}, nil
}

func readKey(file string) (ssh.Signer, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("SSH key: %w", err)
	}
	defer f.Close()
	pem, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, fmt.Errorf("SSH key: %w", err)
	}
	key, err := ssh.ParsePrivateKey(pem)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, fmt.Errorf("SSH key %s: has a passphrase; load it into an agent instead", file)
	}
	if err != nil {
		return nil, fmt.Errorf("SSH key %s: %w", file, err)
	}
	return key, nil
}

func readKnownHosts(file string) (*knownhosts.HostKeyDB, error) {
	files := []string{file}
	if file == "" {
		files = nil
		candidates := []string{"/etc/ssh/ssh_known_hosts"}
		if home, err := os.UserHomeDir(); err == nil {
			candidates = append(candidates, filepath.Join(home, ".ssh", "known_hosts"))
		}
		for _, candidate := range candidates {
			if _, err := os.Stat(candidate); err == nil {
				files = append(files, candidate)
			}
		}
	}
	if len(files) == 0 {
		return nil, errors.New("no known_hosts file: make one with ssh-keyscan, compare its keys with those the host publishes, and name it")
	}
	hosts, err := knownhosts.NewDB(files...)
	if err != nil {
		return nil, fmt.Errorf("known hosts: %w", err)
	}
	return hosts, nil
}

// sshSession is git-upload-pack at the other end of an SSH channel.
type sshSession struct {
	client  *ssh.Client
	session *ssh.Session
	agent   net.Conn // nil with a key file
	stop    func() bool
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	stderr  *tail
	refs    *packp.AdvRefs
	onClose sync.Once
}

func dialSSH(ctx context.Context, to sshAddress, hosts *knownhosts.HostKeyDB, key ssh.Signer, limits Limits) (_ *sshSession, err error) {
	s := &sshSession{stderr: &tail{}}
	var methods []ssh.AuthMethod
	if key != nil {
		methods = []ssh.AuthMethod{ssh.PublicKeys(key)}
	} else {
		var dialer net.Dialer
		if s.agent, err = dialer.DialContext(ctx, "unix", os.Getenv("SSH_AUTH_SOCK")); err != nil {
			return nil, fmt.Errorf("SSH agent: %w", err)
		}
		methods = []ssh.AuthMethod{ssh.PublicKeysCallback(agent.NewClient(s.agent).Signers)}
	}
	defer func() {
		if err != nil {
			_ = s.Close() // the first error is the one that counts
		}
	}()
	dialer := net.Dialer{Timeout: dialTimeout}
	connection, err := dialer.DialContext(ctx, "tcp", to.host)
	if err != nil {
		return nil, err
	}
	// Neither the handshake nor the channel know contexts: closing the connection ends both.
	s.stop = context.AfterFunc(ctx, func() { _ = connection.Close() })
	conn, channels, requests, err := ssh.NewClientConn(connection, to.host, &ssh.ClientConfig{
		User:            to.user,
		Auth:            methods,
		HostKeyCallback: hosts.HostKeyCallback(),
		// Without this, a host known by its ed25519 key that prefers ecdsa counts as changed.
		HostKeyAlgorithms: hosts.HostKeyAlgorithms(to.host),
	})
	if err != nil {
		_ = connection.Close()
		return nil, err
	}
	s.client = ssh.NewClient(conn, channels, requests)
	session, err := s.client.NewSession()
	if err != nil {
		return nil, err
	}
	s.session, session.Stderr = session, s.stderr
	if s.stdin, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.stdout = bufio.NewReader(&limitedReader{stdout, limits.Bytes + maxAdvertisement, "the pack"})
	// sq_quote of git: a path is data, whatever shell the server has.
	quoted := "'" + strings.NewReplacer("'", `'\''`, "!", `'\!'`).Replace(to.path) + "'"
	if err := session.Start(transport.UploadPackServiceName + " " + quoted); err != nil {
		return nil, err
	}
	return s, nil
}

// AdvertisedReferences implements transport.Session.
func (s *sshSession) AdvertisedReferences() (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(context.Background())
}

// AdvertisedReferencesContext implements transport.Session. The context is that of dialSSH.
func (s *sshSession) AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error) {
	if s.refs != nil {
		return s.refs, nil
	}
	refs := packp.NewAdvRefs()
	if err := refs.Decode(s.stdout); err != nil {
		if errors.Is(err, packp.ErrEmptyAdvRefs) {
			return nil, transport.ErrEmptyRemoteRepository
		}
		if errors.Is(err, packp.ErrEmptyInput) {
			// Why it said nothing comes on another stream, complete when the command has ended.
			_ = s.session.Wait()
		}
		if said := s.stderr.String(); said != "" {
			return nil, &serverError{said}
		}
		return nil, err
	}
	if refs.IsEmpty() {
		return nil, transport.ErrEmptyRemoteRepository
	}
	refs.Capabilities.Delete(capability.ThinPack)
	s.refs = refs
	return refs, nil
}

// UploadPack implements transport.UploadPackSession.
func (s *sshSession) UploadPack(_ context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	var request bytes.Buffer
	if err := req.UploadRequest.Encode(&request); err != nil {
		return nil, err
	}
	if err := pktline.NewEncoder(&request).EncodeString("done\n"); err != nil {
		return nil, err
	}
	if _, err := s.stdin.Write(request.Bytes()); err != nil {
		return nil, err
	}
	if err := s.stdin.Close(); err != nil {
		return nil, err
	}
	response := packp.NewUploadPackResponse(req)
	if err := response.Decode(readCloser{s.stdout, s}); err != nil {
		if said := s.stderr.String(); said != "" {
			return nil, &serverError{said}
		}
		return nil, err
	}
	return response, nil
}

// Close ends the connection. The server notices that nothing was wanted by its end.
func (s *sshSession) Close() error {
	s.onClose.Do(func() {
		if s.stop != nil {
			s.stop()
		}
		if s.client != nil {
			_ = s.client.Close()
		}
		if s.agent != nil {
			_ = s.agent.Close()
		}
	})
	return nil
}

// serverError is what a server wrote to its standard error instead of an answer.
type serverError struct{ said string }

func (e *serverError) Error() string { return "the server says: " + e.said }

// tail keeps the beginning of what it is given, for an error message.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := maxErrorBody - len(t.kept); room > 0 {
		t.kept = append(t.kept, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return oneLine(string(t.kept))
}
