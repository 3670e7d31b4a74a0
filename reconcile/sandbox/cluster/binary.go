package cluster

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sourcePath is where the control plane's module lies in this repository.
var sourcePath = filepath.Join("testdata", "controlplane")

// sourceFiles are what the binary is made of, apart from Kubernetes itself.
var sourceFiles = []string{"go.mod", "go.sum", "main.go"}

// Binary returns the control plane's binary, for Options.Binary, building it
// when the user's cache folder has none of this source: some ten minutes of two
// cores, once. sourceDir is the folder of its module; if empty it is
// looked for beside the executable's folder and upward from the working folder.
// Lines of progress go to progress.
//
// Where KUBEBUILDER_ASSETS names a folder with all four components, that
// folder is returned and nothing is built; Start takes from it what it holds.
func Binary(ctx context.Context, sourceDir string, progress io.Writer) (string, error) {
	if dir := os.Getenv(assetsVariable); dir != "" && holdsAll(dir) {
		return dir, nil
	}
	if sourceDir == "" {
		var err error
		if sourceDir, err = findSource(); err != nil {
			return "", err
		}
	}
	version, key, err := identify(sourceDir)
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "amlaks", "controlplane-"+key)
	binary := filepath.Join(dir, "controlplane")
	if built(binary) {
		return binary, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	unlock, err := lockFile(ctx, filepath.Join(dir, "lock"), func() {
		fmt.Fprintf(progress, "waiting for another process that builds the control plane\n")
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if built(binary) {
		return binary, nil
	}
	if err := build(ctx, sourceDir, version, binary, progress); err != nil {
		return "", fmt.Errorf("build the control plane from %s: %w", sourceDir, err)
	}
	return binary, nil
}

func built(binary string) bool {
	fi, err := os.Stat(binary)
	return err == nil && fi.Mode().IsRegular()
}

func holdsAll(dir string) bool {
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"} {
		if !built(filepath.Join(dir, name)) {
			return false
		}
	}
	return true
}

func findSource() (string, error) {
	var starts []string
	if exe, err := os.Executable(); err == nil {
		starts = append(starts, filepath.Dir(filepath.Dir(exe)))
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		starts = append(starts, dir)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	for _, dir := range starts {
		if built(filepath.Join(dir, sourcePath, "main.go")) {
			return filepath.Join(dir, sourcePath), nil
		}
	}
	return "", fmt.Errorf("no %s beside the executable or above %s: name the folder of the control plane's module", sourcePath, wd)
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v\d+\.\d+\.\d+)`)

// identify gives the Kubernetes version and the key of the cache folder.
func identify(sourceDir string) (version, key string, err error) {
	hash := sha256.New()
	for _, name := range sourceFiles {
		body, err := os.ReadFile(filepath.Join(sourceDir, name))
		if err != nil {
			return "", "", err
		}
		fmt.Fprintf(hash, "%s %d\n", name, len(body))
		hash.Write(body)
		if name == "go.mod" {
			m := kubernetesVersion.FindSubmatch(body)
			if m == nil {
				return "", "", fmt.Errorf("%s requires no k8s.io/kubernetes", filepath.Join(sourceDir, name))
			}
			version = string(m[1])
		}
	}
	return version, version + "-" + hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// progressEvery is the pace of the lines that say how far the build is.
const progressEvery = 5 * time.Second

func build(ctx context.Context, sourceDir, version, binary string, progress io.Writer) error {
	temp := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(temp)
	args := []string{"build", "-v", "-trimpath", "-ldflags", "-s -w " + versionFlags(version), "-o", temp, "."}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = sourceDir
	// The module stands alone, whatever workspace it is looked at from.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	began := time.Now()
	fmt.Fprintf(progress, "building Kubernetes %s from source, once (about ten minutes of two cores)\n", version)
	if err := cmd.Start(); err != nil {
		return err
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(stderr); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	packages, last, said := 0, "", 0
	var trouble []string
	for open := true; open; {
		select {
		case line, ok := <-lines:
			switch open = ok; {
			case !ok:
			case packageLine.MatchString(line):
				packages, last = packages+1, line
			case len(trouble) < 40:
				trouble = append(trouble, line)
			}
		case <-tick.C:
			if packages != said {
				fmt.Fprintf(progress, "%6s  %4d packages compiled, at %s\n", time.Since(began).Round(time.Second), packages, last)
			} else {
				fmt.Fprintf(progress, "%6s  %4d packages compiled\n", time.Since(began).Round(time.Second), packages)
			}
			said = packages
		}
	}
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("go build: %w\n%s", err, strings.Join(trouble, "\n"))
	}
	fmt.Fprintf(progress, "%6s  built %s\n", time.Since(began).Round(time.Second), binary)
	return os.Rename(temp, binary)
}

// packageLine is what go build -v says of each package it compiles; everything
// else on its standard error is trouble, or a download.
var packageLine = regexp.MustCompile(`^[\w.~-]+(/[\w.~+-]+)*$`)

// versionFlags put the version into the binary; without them clients see
// v0.0.0-master and some refuse.
func versionFlags(version string) string {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	var flags []string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for _, kv := range [][2]string{
			{"gitVersion", version}, {"gitMajor", parts[0]}, {"gitMinor", parts[1]}, {"gitTreeState", "clean"},
		} {
			flags = append(flags, "-X "+pkg+"."+kv[0]+"="+kv[1])
		}
	}
	return strings.Join(flags, " ")
}

// lockPoll is how often a lock held by another process is tried again.
const lockPoll = 250 * time.Millisecond

// lockFile takes an exclusive lock, which ends with the process at the latest.
// waiting is called once when somebody else has it.
func lockFile(ctx context.Context, name string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for first := true; ; first = false {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
		}
		if first {
			waiting()
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}
