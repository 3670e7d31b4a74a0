package source_test

import (
	"bytes"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amlaks/amlaks/reconcile/source"
	"github.com/amlaks/amlaks/reconcile/source/gittest"
)

func TestInvalidTrees(t *testing.T) {
	lfs := "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
	for name, test := range map[string]struct {
		make   func(*gittest.Repo)
		limits source.Limits
		text   string
	}{
		"link out":      {make: func(r *gittest.Repo) { r.Link("x", "../../etc/passwd") }, text: "x: the link to \"../../etc/passwd\" leaves the repository"},
		"absolute link": {make: func(r *gittest.Repo) { r.Link("x", "/etc/passwd") }, text: "leaves the repository"},
		"chain of links": {make: func(r *gittest.Repo) {
			r.Write("d/f", "")
			r.Link("d/up", "..")
			r.Link("y", "d/up/..") // each stays inside by its words
		}, text: "y: the link to \"d/up/..\" leaves the repository"},
		"huge file": {make: func(r *gittest.Repo) { r.Write("model.bin", strings.Repeat("x", 5000)) }, limits: source.Limits{FileBytes: 4096}, text: "model.bin: has 5000 bytes, more than the 4096 allowed in a file"},
		"huge tree": {make: func(r *gittest.Repo) {
			r.Write("a", strings.Repeat("x", 3000))
			r.Write("b", strings.Repeat("y", 3000))
		}, limits: source.Limits{Bytes: 5000}, text: "more than the 5000 bytes allowed"},
		"huge pack":      {make: func(r *gittest.Repo) { r.Write("a", noise(20_000)) }, limits: source.Limits{Bytes: 5000}, text: "the pack is larger than allowed"},
		"many files":     {make: func(r *gittest.Repo) { r.Write("a", "1"); r.Write("b", "2") }, limits: source.Limits{Files: 2}, text: "more than 2 files"},
		"no spec":        {make: func(r *gittest.Repo) { r.Git("mv", "amlaks.yaml", "amlaks.yml") }, text: "amlaks.yaml: there is no such file"},
		"spec in LFS":    {make: func(r *gittest.Repo) { r.Write("amlaks.yaml", lfs) }, text: "is a git LFS pointer"},
		"spec is folder": {make: func(r *gittest.Repo) { r.Git("rm", "-q", "-f", "amlaks.yaml"); r.Write("amlaks.yaml/x", "") }, text: "is not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			repo := gittest.New(t)
			repo.Commit("name: a\n")
			test.make(repo)
			repo.Push("bad")
			checkInvalid(t, repo, test.limits, test.text)
		})
	}
}

// Names that git itself refuses to add, as somebody's own tool might commit them.
func TestTraversal(t *testing.T) {
	for name, entry := range map[string]string{"up": "..", "dot git": ".GIT"} {
		t.Run(name, func(t *testing.T) {
			repo := gittest.New(t)
			repo.Commit("name: a\n")
			tree := treeWith(t, repo, entry)
			commit := repo.Git("commit-tree", tree, "-m", "bad")
			repo.Git("push", "-q", "--force", "origin", commit+":refs/heads/main")
			checkInvalid(t, repo, source.Limits{}, "is not allowed")
		})
	}
}

// treeWith writes a tree object by hand: a folder called entry with one file in it.
func treeWith(t *testing.T, repo *gittest.Repo, entry string) string {
	t.Helper()
	inner := repo.Git("rev-parse", "HEAD^{tree}")
	var raw bytes.Buffer
	raw.WriteString("40000 " + entry + "\x00")
	for i := 0; i < len(inner); i += 2 {
		raw.WriteByte(unhex(inner[i])<<4 | unhex(inner[i+1]))
	}
	repo.Write("raw", raw.String())
	return repo.Git("hash-object", "-t", "tree", "-w", "--literally", "raw")
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

func checkInvalid(t *testing.T, repo *gittest.Repo, limits source.Limits, text string) {
	t.Helper()
	s := newSource(t, source.Options{URL: repo.ServeHTTP().URL, Limits: limits})
	parent := t.TempDir()
	err := s.Fetch(t.Context(), head(t, s), filepath.Join(parent, "tree"))
	invalid := (*source.InvalidTreeError)(nil)
	if !errors.As(err, &invalid) {
		t.Fatalf("err = %v, want an InvalidTreeError", err)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error = %q, want %q in it", err, text)
	}
	if left := names(t, parent); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// noise does not compress.
func noise(n int) string {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x >> 11)
	}
	return string(b)
}

func TestLeftOut(t *testing.T) {
	repo := gittest.New(t)
	hash := repo.Commit("name: a\n")
	repo.Git("update-index", "--add", "--cacheinfo", "160000,"+hash+",vendored")
	repo.Write("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
	repo.Git("add", "model.bin")
	repo.Git("commit", "-q", "-m", "both")
	repo.Git("push", "-q", "origin", "HEAD:main")
	var log bytes.Buffer
	s := newSource(t, source.Options{URL: repo.ServeHTTP().URL, Log: slog.New(slog.NewTextHandler(&log, nil))})
	dir := filepath.Join(t.TempDir(), "tree")
	if err := s.Fetch(t.Context(), head(t, s), dir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"vendored: submodules are not fetched", "model.bin: git LFS pointers are left as they are"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		options source.Options
		text    string
	}{
		"empty":             {source.Options{}, "must not be empty"},
		"password":          {source.Options{URL: "https://a:hunter2@example.com/r"}, "must not contain a password"},
		"broken, password":  {source.Options{URL: "https://a:hunter2@exa mple.com/%zz"}, "not a URL"},
		"plain http":        {source.Options{URL: "http://example.com/r"}, "for loopback only"},
		"http, credentials": {source.Options{URL: "http://example.com/r", PlainHTTP: true, Auth: source.Auth{Password: "hunter2"}}, "not sent over plain http"},
		"file":              {source.Options{URL: "file:///srv/r.git"}, "cannot be polled"},
		"a local path":      {source.Options{URL: "/srv/r.git"}, "cannot be polled"},
		"scheme":            {source.Options{URL: "git://example.com/r"}, `unknown scheme "git"`},
		"query":             {source.Options{URL: "https://example.com/r?token=hunter2"}, "must not have a query"},
		"path outside":      {source.Options{URL: "https://example.com/r", Path: "../amlaks.yaml"}, "inside the repository"},
		"no known hosts":    {source.Options{URL: "git@example.com:r", Auth: source.Auth{KnownHostsFile: "nope"}}, "known hosts"},
		"no key":            {source.Options{URL: "git@ssh.dev.azure.com:v3/o/p/r", Auth: source.Auth{KnownHostsFile: "/dev/null", SSHKeyFile: "nope"}}, "SSH key"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := source.New(test.options)
			if err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("error = %v, want %q in it", err, test.text)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}
