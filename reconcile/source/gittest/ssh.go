package gittest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	sshserver "github.com/gliderlabs/ssh"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// SSH is an SSH server that runs git upload-pack in a Repo's root.
type SSH struct {
	URL        string // of the repository
	KeyFile    string // a private key that it accepts
	OtherKey   string // one that it does not
	KnownHosts string // a file with its host key
	OtherHosts string // the same host with another key
	NoHosts    string // a file that does not know the host
}

// ServeSSH serves the repository on loopback until the test ends.
func (r *Repo) ServeSSH() *SSH {
	r.t.Helper()
	dir := r.t.TempDir()
	hostKey, _ := r.newKey(filepath.Join(dir, "host"))
	otherHost, _ := r.newKey(filepath.Join(dir, "other-host"))
	client, clientFile := r.newKey(filepath.Join(dir, "client"))
	_, otherFile := r.newKey(filepath.Join(dir, "other-client"))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	server := &sshserver.Server{
		Handler: r.uploadPack,
		PublicKeyHandler: func(_ sshserver.Context, key sshserver.PublicKey) bool {
			return sshserver.KeysEqual(key, client.PublicKey())
		},
	}
	server.AddHostKey(hostKey)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // until Close
	}()
	r.t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	address := listener.Addr().String()
	hosts := func(name string, keys ...ssh.Signer) string {
		file := filepath.Join(dir, name)
		var lines strings.Builder
		for _, key := range keys {
			lines.WriteString(knownhosts.Line([]string{address}, key.PublicKey()) + "\n")
		}
		if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return file
	}
	return &SSH{URL: "ssh://git@" + address + "/repo.git", KeyFile: clientFile, OtherKey: otherFile,
		KnownHosts: hosts("known", hostKey), OtherHosts: hosts("changed", otherHost), NoHosts: hosts("none")}
}

func (r *Repo) uploadPack(s sshserver.Session) {
	command := s.Command()
	if len(command) != 2 || command[0] != "git-upload-pack" {
		_ = s.Exit(1)
		return
	}
	cmd := exec.CommandContext(s.Context(), "git", "upload-pack", filepath.Join(r.Root, filepath.Clean("/"+command[1])))
	cmd.Stdout, cmd.Stderr = s, s.Stderr()
	// With cmd.Stdin, Run would wait for the client to close its side even when git has failed.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		_ = s.Exit(1)
		return
	}
	go func() {
		_, _ = io.Copy(stdin, s) // until either side is gone
		_ = stdin.Close()
	}()
	if cmd.Run() != nil {
		_ = s.Exit(128)
	}
}

func (r *Repo) newKey(file string) (ssh.Signer, string) {
	r.t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		r.t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		r.t.Fatal(err)
	}
	return signer, file
}
