// Package pybase makes a Python base image from the python3 of this machine.
//
// It stands in for the inference base images of a public registry where tests
// must not need one: interpreter, standard library, shared libraries and the ELF
// loader lie in one layer, at the paths they have here, so that the interpreter
// finds its own parts as it does at home. Nothing else of the machine gets in: no
// installed packages, no configuration.
//
// The image is reproducible on one machine, not across machines: it is as old and
// as patched as the Python it was made from. Services in production name a base
// image pinned by digest.
package pybase

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// ErrNoPython says that this machine has no python3 to make an image from: none on
// PATH, none that runs, or none for linux/amd64.
var ErrNoPython = errors.New("no usable python3")

// serverPath is where the scoring server lies in the image.
const serverPath = "/opt/server.py"

// user is the image's user and group: any but root, the number distroless took.
const user = "65532"

// Build returns a linux/amd64 image of the python3 on PATH, with the file serverPy
// as its entrypoint: [python3, /opt/server.py], the former by its absolute path.
// The image holds 30 to 60 MiB, gzipped less than half of that, and is built in memory.
//
// The error wraps ErrNoPython when there is no python3 to build from.
func Build(ctx context.Context, serverPy string) (v1.Image, error) {
	python, err := probe(ctx)
	if err != nil {
		return nil, err
	}
	contents := newTree()
	// Python and its libraries make temporary files; a mount may cover it.
	contents.addFolder("/tmp", 0o1777)
	if err := contents.addFile(serverPath, serverPy); err != nil {
		return nil, fmt.Errorf("add the scoring server: %w", err)
	}
	bin := path.Dir(python.Executable)
	if err := contents.addFile(python.Executable, python.Executable); err != nil {
		return nil, fmt.Errorf("add the interpreter: %w", err)
	}
	// The name that scripts and commands use, if the interpreter has another.
	python3 := path.Join(bin, "python3")
	contents.addLink(python3, path.Base(python.Executable))
	modules, err := contents.addStandardLibrary(ctx, python)
	if err != nil {
		return nil, fmt.Errorf("add the standard library: %w", err)
	}
	libraryDirs, err := contents.addLibraries(python.Executable, modules)
	if err != nil {
		return nil, fmt.Errorf("add shared libraries: %w", err)
	}
	layer, err := contents.layer()
	if err != nil {
		return nil, fmt.Errorf("make the layer: %w", err)
	}

	env := []string{
		"PATH=" + strings.Join(unique(bin, "/usr/local/bin", "/usr/bin", "/bin"), ":"),
		// There is no ld.so.cache in the image to find libraries by.
		"LD_LIBRARY_PATH=" + strings.Join(libraryDirs, ":"),
		"PYTHONDONTWRITEBYTECODE=1", // the root is read-only
		"PYTHONUNBUFFERED=1",        // logs appear when they are written
	}
	// PREFIX/bin/python3 finds PREFIX/lib/python3.12 by itself, another place only when told.
	if prefix := path.Dir(path.Dir(python.Stdlib)); prefix != path.Dir(bin) {
		env = append(env, "PYTHONHOME="+prefix)
	}

	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config = v1.Config{
		User:         user + ":" + user,
		WorkingDir:   "/",
		Entrypoint:   []string{python3, serverPath},
		Env:          env,
		ExposedPorts: map[string]struct{}{"5001/tcp": {}},
	}
	image, err = mutate.ConfigFile(image, file)
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	return image, nil
}

// unique returns the strings without those that came before.
func unique(all ...string) []string {
	var kept []string
	seen := map[string]bool{}
	for _, s := range all {
		if !seen[s] {
			seen[s], kept = true, append(kept, s)
		}
	}
	return kept
}

// realFile returns the file that path leads to through links, and what it is.
func realFile(path string) (string, os.FileInfo, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", nil, err
	}
	info, err := os.Stat(real)
	return real, info, err
}
