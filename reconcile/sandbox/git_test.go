package sandbox_test

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"
	gossh "golang.org/x/crypto/ssh"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// sshKey is the identity that the sandbox gives to its clients.
func sshKey(t *testing.T, s *sandbox.Sandbox) *gitssh.PublicKeys {
	t.Helper()
	keys, err := gitssh.NewPublicKeysFromFile("git", s.SSHKey(), "")
	if err != nil {
		t.Fatal(err)
	}
	if keys.HostKeyCallback, err = gitssh.NewKnownHostsCallback(s.KnownHosts()); err != nil {
		t.Fatal(err)
	}
	return keys
}

func TestGit(t *testing.T) {
	s := start(t, t.TempDir())
	if _, err := s.Repository(t.Context(), "stack"); err != nil {
		t.Fatal(err)
	}
	keys := sshKey(t, s)
	for name, remote := range map[string]struct {
		url  string
		auth transport.AuthMethod
	}{
		"http": {s.GitHTTP() + "/stack.git", nil},
		"ssh":  {s.GitSSH() + "/stack.git", keys},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			work, err := git.PlainInitWithOptions(dir, &git.PlainInitOptions{InitOptions: git.InitOptions{DefaultBranch: plumbing.ReferenceName("refs/heads/" + name)}})
			if err != nil {
				t.Fatal(err)
			}
			tree, err := work.Worktree()
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(dir+"/amlaks.yaml", []byte("name: "+name+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, err := tree.Add("amlaks.yaml"); err != nil {
				t.Fatal(err)
			}
			commit, err := tree.Commit("one", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(0, 0)}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := work.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{remote.url}}); err != nil {
				t.Fatal(err)
			}
			s.ClearRequests()
			if err := work.PushContext(t.Context(), &git.PushOptions{Auth: remote.auth}); err != nil {
				t.Fatal(err)
			}
			cloned, err := git.CloneContext(t.Context(), memory.NewStorage(), nil, &git.CloneOptions{
				URL: remote.url, Auth: remote.auth, ReferenceName: plumbing.ReferenceName("refs/heads/" + name), Depth: 1,
			})
			if err != nil {
				t.Fatal(err)
			}
			head, err := cloned.Head()
			if err != nil || head.Hash() != commit {
				t.Errorf("head %v, want %s, %v", head, commit, err)
			}
			if len(s.Requests("git")) == 0 || len(s.Requests("arm")) != 0 {
				t.Errorf("recorded %d requests of git", len(s.Requests("git")))
			}
		})
	}
}

func TestGitRefuses(t *testing.T) {
	s := start(t, t.TempDir())
	if _, err := s.Repository(t.Context(), "stack"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "../x", "a b", "-x"} {
		if _, err := s.Repository(t.Context(), name); err == nil {
			t.Errorf("repository %q was made", name)
		}
	}
	for _, path := range []string{"/none.git/info/refs?service=git-upload-pack", "/stack/info/refs", "/"} {
		response, err := http.Get(s.GitHTTP() + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, response.Status)
		}
	}
	keys := sshKey(t, s)
	config := &gossh.ClientConfig{User: "git", Auth: []gossh.AuthMethod{gossh.PublicKeys(keys.Signer)}, HostKeyCallback: keys.HostKeyCallback, HostKeyAlgorithms: []string{gossh.KeyAlgoED25519}}
	client, err := gossh.Dial("tcp", strings.TrimPrefix(s.GitSSH(), "ssh://git@"), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, command := range []string{"sh", "git-upload-pack", "git-upload-pack '/none.git'", "git-upload-pack '/../ssh'", "git-upload-pack --help", "git-upload-archive '/stack.git'"} {
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		session.Stdin, session.Stdout, session.Stderr = strings.NewReader(""), io.Discard, io.Discard
		if err := session.Run(command); err == nil {
			t.Errorf("%q was run", command)
		}
		session.Close()
	}
	config.Auth = []gossh.AuthMethod{gossh.Password("x")}
	if _, err := gossh.Dial("tcp", strings.TrimPrefix(s.GitSSH(), "ssh://git@"), config); err == nil {
		t.Error("let in without the key")
	}
	t.Run("fault", func(t *testing.T) {
		inject(t, s, sandbox.Fault{Service: "git", Path: "info/refs", Status: 503})
		response, err := http.Get(s.GitHTTP() + "/stack.git/info/refs?service=git-upload-pack")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("status %s", response.Status)
		}
	})
}
