package pybase

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// probeTimeout is ample for an interpreter to start, also through a version switcher.
const probeTimeout = 30 * time.Second

// question asks an interpreter where its parts are. Of a virtual environment it is
// the Python below it that counts: the environment is a folder of links and packages.
const question = `import json, os, sys, sysconfig
print(json.dumps({
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
    "version": list(sys.version_info[:3]),
    "stdlib": os.path.realpath(sysconfig.get_path("stdlib")),
    "platstdlib": os.path.realpath(os.path.join(
        sys.base_exec_prefix, getattr(sys, "platlibdir", "lib"), os.path.basename(sysconfig.get_path("stdlib")))),
}))`

// interpreter is the Python of this machine. Its paths are absolute and free of links.
type interpreter struct {
	Executable string `json:"executable"`
	Version    []int  `json:"version"`
	// Stdlib is the folder of the standard library, PlatStdlib that of its compiled
	// part; they are one folder nearly everywhere.
	Stdlib     string `json:"stdlib"`
	PlatStdlib string `json:"platstdlib"`
}

// probe finds python3 on PATH and asks it. It is run, not read, because only the
// interpreter knows what version switchers, environments and distributions did to it.
func probe(ctx context.Context) (*interpreter, error) {
	found, err := exec.LookPath("python3")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoPython, err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var answer, complaint bytes.Buffer
	// -I: neither PYTHONPATH nor the working directory may change the answer.
	command := exec.CommandContext(ctx, found, "-I", "-c", question)
	command.Stdout, command.Stderr = &answer, &complaint
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("ask %s about itself: %w", found, ctx.Err())
		}
		return nil, fmt.Errorf("%w: %s: %w: %s", ErrNoPython, found, err, lastLine(complaint.String()))
	}
	python := &interpreter{}
	if err := json.NewDecoder(io.LimitReader(&answer, 1<<16)).Decode(python); err != nil {
		return nil, fmt.Errorf("ask %s about itself: %w", found, err)
	}
	if !filepath.IsAbs(python.Executable) || !filepath.IsAbs(python.Stdlib) || len(python.Version) != 3 {
		return nil, fmt.Errorf("ask %s about itself: it says %+v", found, *python)
	}
	binary, err := elf.Open(python.Executable)
	if err != nil {
		return nil, fmt.Errorf("%w: %s is no Linux program: %w", ErrNoPython, python.Executable, err)
	}
	defer binary.Close()
	if binary.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%w: %s is for %s", ErrNoPython, python.Executable, binary.Machine)
	}
	return python, nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// leftOut are folders of the standard library that no scoring server imports:
// tests, what was installed beside it, teaching tools, and what needs a display.
func leftOut(folder string) bool {
	switch folder {
	case "test", "tests", "idlelib", "ensurepip", "site-packages", "dist-packages", "__pycache__",
		"tkinter", "turtledemo":
		return true
	}
	// config-3.12-x86_64-linux-gnu: a static libpython and a Makefile, to embed Python with.
	return strings.HasPrefix(folder, "config-")
}

// leftOutModule are compiled modules of the same kind; _tkinter alone would bring X11 along.
func leftOutModule(file string) bool {
	for _, prefix := range []string{"_tkinter", "_test", "_ctypes_test", "_xxtest", "xxlimited"} {
		if strings.HasPrefix(file, prefix) {
			return true
		}
	}
	return false
}

// addStandardLibrary adds the standard library at its own path and returns the
// compiled modules in it.
func (t *tree) addStandardLibrary(ctx context.Context, python *interpreter) (modules []string, err error) {
	for _, root := range unique(python.Stdlib, python.PlatStdlib) {
		if root != python.Stdlib {
			// Only what is compiled: its other half has been walked.
			root = filepath.Join(root, "lib-dynload")
		}
		err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case ctx.Err() != nil:
				return ctx.Err()
			case entry.IsDir() && path != root && leftOut(entry.Name()):
				return fs.SkipDir
			case entry.IsDir():
				return nil
			}
			compiled := strings.HasSuffix(path, ".so")
			if compiled && leftOutModule(entry.Name()) {
				return nil
			}
			real, info, err := realFile(path)
			if err != nil || !info.Mode().IsRegular() {
				// Debian links sitecustomize.py to a file in /etc that may be gone.
				return nil
			}
			if compiled {
				modules = append(modules, path)
			}
			return t.addFile(path, real)
		})
		if err != nil {
			return nil, err
		}
	}
	return modules, nil
}
