package pybase

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

const fixtures = "../../../testdata/python"

// pythons are the folders in which this machine has a python3: the one on PATH, and
// the distribution's where that is another.
func pythons(t *testing.T) []string {
	var dirs []string
	if found, err := exec.LookPath("python3"); err == nil {
		dirs = append(dirs, filepath.Dir(found))
	}
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		dirs = unique(append(dirs, "/usr/bin")...)
	}
	if len(dirs) == 0 {
		t.Skip("SKIPPED: no python3 on this machine, so the Python path is not tested")
	}
	return dirs
}

// The image runs by itself: chrooted into it, as its own user, with its own
// environment, an unchanged v1 entry script is served to the letter of the contract.
func TestBuild(t *testing.T) {
	path := os.Getenv("PATH")
	for _, dir := range pythons(t) {
		t.Run(strings.TrimPrefix(dir, "/"), func(t *testing.T) {
			t.Setenv("PATH", dir+":"+path)
			begin := time.Now()
			image, err := Build(t.Context(), filepath.Join(fixtures, "server.py"))
			if errors.Is(err, ErrNoPython) {
				t.Skipf("SKIPPED: %v, so the Python path is not tested", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			root := t.TempDir()
			unpacked := unpack(t, image, root)
			t.Logf("%s: %.1f MiB unpacked, built in %v", dir, float64(unpacked)/(1<<20), time.Since(begin).Round(time.Millisecond))
			checkImage(t, image)
			checkReproducible(t, image)
			c := container(t, image, root)
			t.Run("imports", func(t *testing.T) { testImports(t, c) })
			t.Run("contract", func(t *testing.T) { testContract(t, c) })
		})
	}
}

func checkImage(t *testing.T, image v1.Image) {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if file.OS != "linux" || file.Architecture != "amd64" || file.Config.User != "65532:65532" {
		t.Errorf("%s/%s as %s, want linux/amd64 as 65532:65532", file.OS, file.Architecture, file.Config.User)
	}
	if e := file.Config.Entrypoint; len(e) != 2 || !strings.HasSuffix(e[0], "/python3") || e[1] != "/opt/server.py" {
		t.Errorf("entrypoint %q", e)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v: want 1", len(layers), err)
	}
	size, err := layers[0].Size()
	if err != nil || size > 60<<20 {
		t.Errorf("the layer has %d bytes, %v: want less than 60 MiB", size, err)
	}
	t.Logf("%.1f MiB compressed", float64(size)/(1<<20))
}

func checkReproducible(t *testing.T, image v1.Image) {
	t.Helper()
	again, err := Build(t.Context(), filepath.Join(fixtures, "server.py"))
	if err != nil {
		t.Fatal(err)
	}
	want, err1 := image.Digest()
	got, err2 := again.Digest()
	if want != got || err1 != nil || err2 != nil {
		t.Errorf("built twice: %v %v, then %v %v", want, err1, got, err2)
	}
}

// unpack writes the image's files below root, with the modes they have in it, and
// returns their size.
func unpack(t *testing.T, image v1.Image, root string) int64 {
	t.Helper()
	stream := mutate.Extract(image)
	defer stream.Close()
	var total int64
	r := tar.NewReader(stream)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return total
		}
		if err != nil {
			t.Fatal(err)
		}
		if leaf := filepath.Base(h.Name); leftOut(leaf) || strings.HasPrefix(leaf, "_tkinter") {
			t.Errorf("%s is in the image", h.Name)
		}
		path := filepath.Join(root, h.Name)
		switch h.Typeflag {
		case tar.TypeDir:
			err = errors.Join(os.MkdirAll(path, 0o755), os.Chmod(path, os.FileMode(h.Mode&0o777)))
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeReg:
			var f *os.File
			if f, err = os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(h.Mode)); err == nil {
				var n int64
				n, err = io.Copy(f, r)
				total += n
				err = errors.Join(err, f.Close())
			}
		default:
			t.Fatalf("%s: unexpected type %q", h.Name, h.Typeflag)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// chrooted runs programs in an unpacked image.
type chrooted struct {
	root   string
	config v1.Config
}

func container(t *testing.T, image v1.Image, root string) chrooted {
	t.Helper()
	file, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c := chrooted{root: root, config: file.Config}
	// These say that the chroot was refused, not that Python failed in it.
	var errno syscall.Errno
	if _, err := c.command(t.Context(), "-c", "").Output(); errors.As(err, &errno) &&
		(errno == syscall.EPERM || errno == syscall.ENOSPC || errno == syscall.EINVAL) {
		t.Skipf("SKIPPED: neither root nor user namespaces (%v), so the image was built but not run", err)
	}
	return c
}

// command is the image's python3 with args, in a chroot: as the image's user where
// we are root, else in a user namespace that maps that user to us.
func (c chrooted) command(ctx context.Context, args ...string) *exec.Cmd {
	const uid = 65532
	command := exec.CommandContext(ctx, c.config.Entrypoint[0], args...)
	command.Dir, command.Env = "/", c.config.Env
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: c.root, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
		return command
	}
	command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
	command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getuid(), Size: 1}}
	command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: uid, HostID: os.Getgid(), Size: 1}}
	return command
}

// Every module with a shared library of its own that a score.py is likely to import,
// as far as this machine's Python has it.
func testImports(t *testing.T, c chrooted) {
	modules := []string{"asyncio", "bz2", "csv", "ctypes", "datetime", "decimal", "hashlib", "http.server", "json",
		"lzma", "multiprocessing", "pickle", "socket", "sqlite3", "ssl", "tempfile", "urllib.request", "uuid", "zlib"}
	const script = `import importlib, os, sys, threading
bad = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ImportError as error:
        bad.append(f"{name}: {error}")
# A thread's end is where a missing libgcc_s aborts the process.
thread = threading.Thread(target=print, args=("thread",))
thread.start()
thread.join()
print(os.getuid(), bad)`
	args := append([]string{"-c", script}, modules...)
	got, err := c.command(t.Context(), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	here := exec.CommandContext(t.Context(), "python3", append([]string{"-I"}, args...)...)
	want, err := here.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	_, wantBad, _ := strings.Cut(string(want), " ")
	uid, gotBad, _ := strings.Cut(strings.TrimPrefix(string(got), "thread\n"), " ")
	if diff := cmp.Diff(wantBad, gotBad); diff != "" || uid != "65532" {
		t.Errorf("as user %s; imports that fail (-here +image):\n%s", uid, diff)
	}
}

func testContract(t *testing.T, c chrooted) {
	const appRoot, modelDir = "/var/azureml-app", "/var/azureml-app/azureml-models/line/1"
	for from, to := range map[string]string{"app": appRoot, "model": modelDir} {
		if err := os.CopyFS(filepath.Join(c.root, to), os.DirFS(filepath.Join(fixtures, from))); err != nil {
			t.Fatal(err)
		}
	}
	// The entrypoint would listen on all addresses: its main is called with loopback.
	command := c.command(t.Context(), "-c", `import sys; sys.path.insert(0, "/opt"); import server; server.main("127.0.0.1", 0)`)
	command.Env = append(command.Env, "AML_APP_ROOT="+appRoot, "AZUREML_ENTRY_SCRIPT=score.py", "AZUREML_MODEL_DIR="+modelDir)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Process.Kill()
	lines := bufio.NewReader(stdout)
	line, _ := lines.ReadString('\n')
	var port int
	if _, err := fmt.Sscanf(line, "listening on port %d", &port); err != nil {
		command.Process.Kill()
		command.Wait()
		t.Fatalf("the server says %q and %s", line, stderr.String())
	}
	drained := make(chan struct{})
	go func() { defer close(drained); io.Copy(io.Discard, lines) }()

	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	for _, test := range []struct {
		name, method, path string
		body               io.Reader
		status             int
		want               string
		failed             string
	}{
		{name: "health", method: "GET", path: "/", status: 200, want: "Healthy"},
		{name: "score", method: "POST", path: "/score", body: strings.NewReader(`{"data": [0, 2]}`), status: 200,
			want: `{"predictions": [-1.0, 4.0]}`},
		// A reader of no known length makes the client send chunks.
		{name: "chunked", method: "POST", path: "/score", body: io.MultiReader(strings.NewReader(`{"data":`), strings.NewReader(` [4]}`)),
			status: 200, want: `{"predictions": [9.0]}`},
		{name: "raises", method: "POST", path: "/score", body: strings.NewReader(`{}`), status: 500,
			want: `{"error": "'data'"}`, failed: "True"},
		{name: "not text", method: "POST", path: "/score", body: strings.NewReader("\xff"), status: 400,
			want: `{"error": "the body is not UTF-8"}`},
		{name: "get score", method: "GET", path: "/score", status: 405, want: `{"error": "Method Not Allowed"}`},
		{name: "no swagger", method: "GET", path: "/swagger.json", status: 404, want: `{"error": "Not Found"}`},
		{name: "score again", method: "POST", path: "/score", body: strings.NewReader(`{"data": []}`), status: 200,
			want: `{"predictions": []}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), test.method, url+test.path, test.body)
			if err != nil {
				t.Fatal(err)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(io.LimitReader(response.Body, 1<<16))
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || string(body) != test.want ||
				response.Header.Get("x-ms-run-function-failed") != test.failed {
				t.Errorf("%d %s %v, want %d %s", response.StatusCode, body, response.Header, test.status, test.want)
			}
			if test.path == "/score" && test.status == 200 && !json.Valid(body) {
				t.Errorf("%s is no JSON", body)
			}
		})
	}

	// An idle connection is still open now; SIGTERM must not wait for it.
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Error("still running 10 s after SIGTERM")
		command.Process.Kill()
	}
	if err := command.Wait(); err != nil {
		t.Errorf("after SIGTERM: %v: %s", err, stderr.String())
	}
	if !strings.Contains(stderr.String(), "KeyError: 'data'") {
		t.Errorf("the script's traceback is not in the log: %s", stderr.String())
	}
}

func TestBuildWithoutPython(t *testing.T) {
	empty := t.TempDir()
	broken := t.TempDir()
	// What a version switcher does when no version is chosen.
	script := "#!/bin/sh\necho 'python3: command not found' >&2\nexit 127\n"
	if err := os.WriteFile(filepath.Join(broken, "python3"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]string{empty: "not found in $PATH", broken: "exit status 127: python3: command not found"} {
		t.Setenv("PATH", dir)
		_, err := Build(t.Context(), filepath.Join(fixtures, "server.py"))
		if !errors.Is(err, ErrNoPython) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want ErrNoPython with %q", err, want)
		}
	}
}
