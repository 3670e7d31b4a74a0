package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"amlaks-sandbox": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// The sandbox outlives the script that started it, unless somebody ends it.
			f := &folder{dir: env.WorkDir + "/box"}
			env.Defer(func() { endRecorded(t, f) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"kill9":   kill9,
			"loadenv": loadEnv,
		},
	})
}

func endRecorded(t *testing.T, f *folder) {
	if p, running := f.recorded(); running {
		if gone, err := p.end(context.Background(), syscall.SIGKILL, 10*time.Second); err != nil || !gone {
			t.Errorf("the sandbox is left running: %v", err)
		}
	}
}

// kill9 DIR kills the sandbox of a folder as a crash would.
func kill9(ts *testscript.TestScript, _ bool, args []string) {
	f := &folder{dir: ts.MkAbs(args[0])}
	p, running := f.recorded()
	if !running {
		ts.Fatalf("no sandbox runs in %s", f.dir)
	}
	gone, err := p.end(context.Background(), syscall.SIGKILL, 10*time.Second)
	ts.Check(err)
	if !gone {
		ts.Fatalf("process %d does not end", p.PID)
	}
}

// loadenv FILE sets what a file exports.
func loadEnv(ts *testscript.TestScript, _ bool, args []string) {
	lines := bufio.NewScanner(strings.NewReader(ts.ReadFile(args[0])))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !ok {
			ts.Fatalf("%s: %q", args[0], lines.Text())
		}
		ts.Setenv(name, strings.Trim(value, "'"))
	}
}

// A process of the same number that started at another time is not ours to end.
func TestReusedNumber(t *testing.T) {
	f := &folder{dir: t.TempDir()}
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.alive() {
		t.Fatal("this process is not alive")
	}
	for name, p := range map[string]process{
		"another start": {PID: self.PID, Started: "1" + self.Started},
		"no process":    {PID: 1 << 30, Started: self.Started},
		"no number":     {PID: -1, Started: self.Started},
	} {
		content, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.path("process.json"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, running := f.recorded(); running {
			t.Errorf("%s: taken for the sandbox", name)
		}
	}
}
