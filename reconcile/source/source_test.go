package source_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/source"
	"github.com/amlaks/amlaks/reconcile/source/gittest"
)

func newSource(t *testing.T, o source.Options) *source.Source {
	t.Helper()
	s, err := source.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func head(t *testing.T, s *source.Source) source.Revision {
	t.Helper()
	rev, err := s.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func read(t *testing.T, elements ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elements...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}

const advertisement = "GET /repo.git/info/refs?service=git-upload-pack"

func TestHTTP(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeHTTP()
	server.Require("ci", "s3cret")
	repo.Write("score/score.py", "print(1)\n")
	repo.Write("big", strings.Repeat("0123456789abcdef", 200_000)) // above what is inflated in memory
	repo.Link("score/spec", "../amlaks.yaml")
	repo.Commit("name: old\n")
	want := repo.Commit("name: new\n")
	s := newSource(t, source.Options{URL: server.URL, Auth: source.Auth{Username: "ci", Password: "s3cret"}})

	rev := head(t, s)
	if diff := cmp.Diff(source.Revision{Hash: want, Ref: "refs/heads/main"}, rev); diff != "" {
		t.Errorf("revision (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{advertisement}, server.Requests()); diff != "" {
		t.Errorf("requests of a poll (-want +got):\n%s", diff)
	}

	parent := t.TempDir()
	dir := filepath.Join(parent, "tree")
	if err := s.Fetch(t.Context(), rev, dir); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{advertisement, "POST /repo.git/git-upload-pack"}, server.Requests()); diff != "" {
		t.Errorf("requests of a fetch (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"amlaks.yaml", "big", "score"}, names(t, dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if got := read(t, dir, "score", "spec"); got != "name: new\n" {
		t.Errorf("the spec through its link = %q", got)
	}
	if got := len(read(t, dir, "big")); got != 3_200_000 {
		t.Errorf("the big file has %d bytes", got)
	}
	if diff := cmp.Diff([]string{"tree"}, names(t, parent)); diff != "" {
		t.Errorf("left beside the tree (-want +got):\n%s", diff)
	}
}

func TestSSH(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeSSH()
	want := repo.Commit("name: a\n")
	good := source.Auth{SSHKeyFile: server.KeyFile, KnownHostsFile: server.KnownHosts}
	s := newSource(t, source.Options{URL: server.URL, Auth: good})
	rev := head(t, s)
	if rev.Hash != want {
		t.Errorf("head = %s, want %s", rev.Hash, want)
	}
	dir := filepath.Join(t.TempDir(), "tree")
	if err := s.Fetch(t.Context(), rev, dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "amlaks.yaml"); got != "name: a\n" {
		t.Errorf("spec = %q", got)
	}
	for name, test := range map[string]struct {
		auth   source.Auth
		url    string
		reason reconcile.Reason
		text   string
	}{
		"another host key":  {source.Auth{SSHKeyFile: server.KeyFile, KnownHostsFile: server.OtherHosts}, server.URL, reconcile.ReasonForbidden, "key is not the one in known_hosts"},
		"unknown host":      {source.Auth{SSHKeyFile: server.KeyFile, KnownHostsFile: server.NoHosts}, server.URL, reconcile.ReasonForbidden, "is not in known_hosts"},
		"another client":    {source.Auth{SSHKeyFile: server.OtherKey, KnownHostsFile: server.KnownHosts}, server.URL, reconcile.ReasonForbidden, "accepts none of the SSH keys"},
		"no such repo":      {good, strings.Replace(server.URL, "repo.git", "nope.git", 1), reconcile.ReasonNotFound, "does not appear to be a git repository"},
		"quote in the path": {good, server.URL + "'; id; '", reconcile.ReasonNotFound, "does not appear to be a git repository"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newSource(t, source.Options{URL: test.url, Auth: test.auth}).Head(t.Context())
			checkFailure(t, err, test.reason, test.text)
		})
	}
}

func checkFailure(t *testing.T, err error, reason reconcile.Reason, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if got := reconcile.ReasonOf(err); got != reason {
		t.Errorf("reason = %q, want %q (%v)", got, reason, err)
	}
	if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error = %q, want one line with %q", err, text)
	}
	if reconcile.HintOf(err) == "" {
		t.Error("no hint")
	}
}

// A server that accepts and then says nothing must not outlive the context; go-git's own SSH
// transport would wait for its handshake for ever.
func TestSilentServer(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeSSH()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, url := range []string{"ssh://git@" + listener.Addr().String() + "/r", "http://" + listener.Addr().String() + "/r"} {
		s := newSource(t, source.Options{URL: url, Auth: source.Auth{SSHKeyFile: server.KeyFile, KnownHostsFile: server.KnownHosts}})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := s.Head(ctx)
		cancel()
		checkFailure(t, err, reconcile.ReasonUnavailable, "deadline exceeded")
	}
}

func TestFailures(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeHTTP()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := "http://" + closed.Addr().String() + "/repo.git"
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = newSource(t, source.Options{URL: server.URL}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonNotFound, "empty")
	repo.Commit("name: a\n")
	repo.Git("push", "-q", "origin", "main:release/1", "main:maintenance")

	_, err = newSource(t, source.Options{URL: gone}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonUnavailable, "connection refused")
	_, err = newSource(t, source.Options{URL: strings.Replace(server.URL, "repo", "nope", 1)}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonNotFound, "repository not found")
	_, err = newSource(t, source.Options{URL: server.URL, Ref: "mian"}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonNotFound, `no branch or tag "mian"`)
	if hint := reconcile.HintOf(err); !strings.Contains(hint, "has main, ") {
		t.Errorf("hint = %q, want the near refs, nearest first", hint)
	}
	server.Require("ci", "s3cret")
	_, err = newSource(t, source.Options{URL: server.URL, Auth: source.Auth{Password: "hunter2"}}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonForbidden, "401")
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the password: %v", err)
	}
	server.Down(true)
	_, err = newSource(t, source.Options{URL: server.URL}).Head(t.Context())
	checkFailure(t, err, reconcile.ReasonUnavailable, "the server answers 502")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newSource(t, source.Options{URL: server.URL}).Head(ctx); !errors.Is(err, context.Canceled) || reconcile.ReasonOf(err) != "" {
		t.Errorf("cancelled: %v, reason %q", err, reconcile.ReasonOf(err))
	}
}

func TestRefs(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeHTTP()
	want := repo.Commit("name: a\n")
	repo.Git("tag", "-a", "v1", "-m", "one")
	repo.Git("push", "-q", "origin", "v1")
	repo.Commit("name: b\n")
	for _, ref := range []string{"v1", "refs/tags/v1"} {
		s := newSource(t, source.Options{URL: server.URL, Ref: ref})
		rev := head(t, s)
		if diff := cmp.Diff(source.Revision{Hash: want, Ref: "refs/tags/v1"}, rev); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ref, diff)
		}
		dir := filepath.Join(t.TempDir(), "tree")
		if err := s.Fetch(t.Context(), rev, dir); err != nil {
			t.Fatal(err)
		}
		if got := read(t, dir, "amlaks.yaml"); got != "name: a\n" {
			t.Errorf("spec = %q", got)
		}
	}
}

func TestMoved(t *testing.T) {
	repo := gittest.New(t)
	server := repo.ServeHTTP()
	repo.Commit("name: a\n")
	s := newSource(t, source.Options{URL: server.URL})
	before := head(t, s)
	repo.Git("commit", "-q", "--amend", "-m", "rewritten")
	after := repo.Push("on top of it") // by force
	parent := t.TempDir()
	err := s.Fetch(t.Context(), before, filepath.Join(parent, "tree"))
	moved := (*source.MovedError)(nil)
	if !errors.As(err, &moved) {
		t.Fatalf("err = %v, want a MovedError", err)
	}
	if moved.From != before || moved.To.Hash != after {
		t.Errorf("moved = %+v", moved)
	}
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := s.Fetch(t.Context(), head(t, s), filepath.Join(parent, "tree")); err != nil {
		t.Errorf("after polling again: %v", err)
	}
}
