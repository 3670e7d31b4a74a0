package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/amlaks/amlaks/reconcile/sandbox/pybase"
)

// The scripts in testdata/script run the real binaries, each script against a sandbox of its
// own, which has a real control plane for each cluster.

// suite is what all scripts share.
type suite struct {
	bin  string // amlaks, amlaks-fe, amlaks-sandbox, and the quickstart's server
	root string // of the repository
}

func TestScripts(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a sandbox: some seconds to start")
	}
	s := startSuite(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("..", "..", "testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup:               s.setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"eventually":  eventually,
			"exits":       exits,
			"edit":        edit,
			"writes":      writes,
			"events":      events,
			"pybase":      pybaseCommand,
			"certificate": certificateCommand,
			"underload":   underload,
		},
		Condition: func(condition string) (bool, error) {
			if condition == "python3" {
				_, err := exec.LookPath("python3")
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
	})
}

func startSuite(t *testing.T) *suite {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{bin: t.TempDir(), root: root}
	build(t, s.bin, "./cmd/amlaks", "./cmd/amlaks-fe", "./cmd/amlaks-sandbox")
	build(t, filepath.Join(s.bin, "quickstart-server"), "./examples/quickstart/server")
	// The first sandbox of a machine compiles Kubernetes: once, before the scripts' clocks run.
	dir := filepath.Join(t.TempDir(), "s")
	for _, args := range [][]string{{"up", "--dir", dir, "--controlplane-source", s.controlplane()}, {"down", "--dir", dir}} {
		if said, err := s.sandbox(20*time.Minute, args...); err != nil {
			t.Fatalf("amlaks-sandbox %s: %v\n%s", args[0], err, said)
		}
	}
	return s
}

func (s *suite) controlplane() string { return filepath.Join(s.root, "testdata", "controlplane") }

// sandbox runs amlaks-sandbox and gives what it said.
func (s *suite) sandbox(limit time.Duration, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return exec.CommandContext(ctx, filepath.Join(s.bin, "amlaks-sandbox"), args...).CombinedOutput()
}

// setUp starts a script's sandbox and tells the script about it.
func (s *suite) setUp(e *testscript.Env) error {
	cache, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	dir := filepath.Join(e.WorkDir, ".sandbox")
	models := filepath.Join(s.root, "examples", "quickstart", "model")
	args := []string{"up", "--dir", dir, "--controlplane-source", s.controlplane()}
	if filepath.Base(e.WorkDir) == "script-workspace" {
		args = append(args, "--no-workspace") // which it makes
	} else {
		args = append(args, "--model", "wine:1="+filepath.Join(models, "1"), "--model", "wine:2="+filepath.Join(models, "2"))
	}
	if said, err := s.sandbox(time.Minute, args...); err != nil {
		return fmt.Errorf("start the script's sandbox: %w\n%s", err, said)
	}
	e.Defer(func() {
		if said, err := s.sandbox(time.Minute, "down", "--dir", dir); err != nil {
			e.T().Log("amlaks-sandbox down: ", err, string(said))
			e.T().FailNow()
		}
	})
	if err := s.exports(e, filepath.Join(dir, "env")); err != nil {
		return err
	}
	e.Vars = append(e.Vars, "SANDBOX="+dir, "ROOT="+s.root, "USER_CACHE="+cache, "XDG_CACHE_HOME="+e.WorkDir+"/.cache",
		"GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.com", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.com",
		"PATH="+s.bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	return s.quickstart(e.WorkDir)
}

// exports takes over what the sandbox' env file exports.
func (s *suite) exports(e *testscript.Env, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if assignment, ok := strings.CutPrefix(lines.Text(), "export "); ok {
			name, value, _ := strings.Cut(assignment, "=")
			e.Vars = append(e.Vars, name+"="+strings.Trim(value, `'"`))
		}
	}
	return nil
}

// quickstart gives every script a server to deploy and a request for it.
func (s *suite) quickstart(work string) error {
	if err := os.Mkdir(filepath.Join(work, "score"), 0o755); err != nil {
		return err
	}
	server, err := os.ReadFile(filepath.Join(s.bin, "quickstart-server"))
	if err != nil {
		return err
	}
	request, err := os.ReadFile(filepath.Join(s.root, "examples", "quickstart", "request.json"))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(work, "score", "server"), server, 0o755),
		os.WriteFile(filepath.Join(work, "request.json"), request, 0o644))
}

func build(t *testing.T, out string, packages ...string) {
	t.Helper()
	if len(packages) > 1 {
		out += string(filepath.Separator)
	}
	c := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out}, packages...)...)
	c.Dir = filepath.Join("..", "..")
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, said)
	}
}

// exits runs a command and checks its exit code, which testscript's own exec cannot:
//
//	exits 7 amlaks validate
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); err != nil && errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// eventually repeats a command until its output matches:
//
//	eventually 30s 'no changes' amlaks plan
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: eventually DURATION PATTERN COMMAND...")
	}
	limit, err := time.ParseDuration(args[0])
	ts.Check(err)
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	ticker := time.NewTicker(300 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(limit)
	for {
		// The exit code does not matter: what it says does.
		_ = ts.Exec(args[2], args[3:]...)
		said := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if pattern.MatchString(said) {
			return
		}
		select {
		case <-deadline:
			ts.Fatalf("not within %s: %s; last:\n%s", limit, args[1], said)
		case <-ticker.C:
		}
	}
}

// edit replaces a text in a file, which must be there:
//
//	edit amlaks.yaml 'agentCount: 1' 'agentCount: 2'
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	path := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, []byte(strings.Replace(text, args[1], args[2], 1)), 0o644))
}

// writes counts the requests that changed something, in ARM, the registry and Kubernetes, and
// whose path contains a text; dry-runs change nothing:
//
//	writes 0 managedClusters/mine
func writes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: writes COUNT PATH")
	}
	ts.Check(ts.Exec("amlaks-sandbox", "requests", "--dir", ts.Getenv("SANDBOX"), "--service", "all"))
	n := 0
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if writing.MatchString(line) && strings.Contains(line, args[1]) && !strings.Contains(line, `"dryRun":`) {
			n++
		}
	}
	if strconv.Itoa(n) != args[0] {
		ts.Fatalf("%d writes to %s, want %s", n, args[1], args[0])
	}
}

// events checks that each line of stdout is an event or the result as their schema says, that
// there is just one result, at the end, and that each of the phases or types is among them:
//
//	events started done result
func events(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: events PHASE-OR-TYPE...")
	}
	seen := map[string]int{}
	for text := range strings.Lines(ts.ReadFile("stdout")) {
		if err := checkEvent(text); err != nil || seen["result"] > 0 {
			ts.Fatalf("%sis not an event in its place: %v", text, err)
		}
		var e struct{ Type, Phase string }
		ts.Check(json.Unmarshal([]byte(text), &e))
		seen[e.Type]++
		seen[e.Phase]++
	}
	for _, want := range append(args, "result") {
		if seen[want] == 0 {
			ts.Fatalf("no %s among the events: %v", want, seen)
		}
	}
}

// pybaseCommand pushes a base image with this machine's Python and our small inference server
// to the sandbox' registry, and puts its reference into $PYBASE.
func pybaseCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: pybase")
	}
	built, err := pybase.Build(context.Background(), filepath.Join(ts.Getenv("ROOT"), "testdata", "python", "server.py"))
	if errors.Is(err, pybase.ErrNoPython) {
		ts.Fatalf("no python3 to build a base image from: %v", err)
	}
	ts.Check(err)
	digest, err := built.Digest()
	ts.Check(err)
	ref, err := name.NewDigest(ts.Getenv("SANDBOX_REGISTRY")+"/bases/python@"+digest.String(), name.Insecure)
	ts.Check(err)
	ts.Check(remote.Write(ref, built))
	ts.Setenv("PYBASE", ref.String())
}

var writing = regexp.MustCompile(`"method":"(PUT|PATCH|DELETE)"`)
