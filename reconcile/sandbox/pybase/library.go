package pybase

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// opened are libraries that nothing links but glibc opens by name: libgcc_s when a
// thread ends by pthread_exit, the others to look up users and hosts (before 2.34).
var opened = []string{"libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"}

// defaultDirs are where a loader looks without being told: Debian's multiarch
// folders, Fedora's lib64, musl's.
var defaultDirs = []string{
	"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib",
}

// addLibraries adds the ELF loader and every shared library that the interpreter
// and the modules need, each at the path it is found by here, and returns the
// folders they are in, in the order they were met.
//
// It reads the files as the loader would: ldd would run them, and is not everywhere.
func (t *tree) addLibraries(executable string, modules []string) ([]string, error) {
	cache, err := readLoaderCache("/etc/ld.so.cache")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l := &linker{tree: t, cache: cache, done: map[string]bool{}}
	main, err := readObject(executable)
	if err != nil {
		return nil, err
	}
	if main.loader != "" {
		if err := t.addFile(main.loader, main.loader); err != nil {
			return nil, fmt.Errorf("the loader: %w", err)
		}
	}
	if missing, err := l.add(main, nil); err != nil {
		return nil, err
	} else if len(missing) > 0 {
		return nil, fmt.Errorf("%s needs %s: not found", executable, strings.Join(missing, ", "))
	}
	for _, module := range modules {
		object, err := readObject(module)
		if err != nil {
			return nil, err
		}
		// What a module misses here it may miss there: its import fails in both.
		if _, err := l.add(object, main.rpath); err != nil {
			return nil, err
		}
	}
	if _, err := l.add(&object{path: executable, needed: opened}, nil); err != nil {
		return nil, err
	}
	return unique(l.dirs...), nil
}

// object is what the loader reads of an ELF file.
type object struct {
	path    string
	loader  string   // PT_INTERP, of programs
	needed  []string // DT_NEEDED: names, or paths with a slash
	rpath   []string // DT_RPATH: before everything, and for what it needs as well
	runpath []string // DT_RUNPATH: for itself; makes DT_RPATH void
}

func readObject(file string) (*object, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	defer f.Close()
	o := &object{path: file}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz == 0 || p.Filesz > 4096 {
			continue
		}
		name := make([]byte, p.Filesz)
		if _, err := p.ReadAt(name, 0); err != nil {
			return nil, fmt.Errorf("read the loader's name in %s: %w", file, err)
		}
		o.loader = strings.TrimRight(string(name), "\x00")
	}
	// A static program has no dynamic section, and debug/elf says so by empty answers.
	if o.needed, err = f.DynString(elf.DT_NEEDED); err != nil {
		return nil, fmt.Errorf("read what %s needs: %w", file, err)
	}
	if o.rpath, err = searchPath(f, elf.DT_RPATH, file); err != nil {
		return nil, err
	}
	if o.runpath, err = searchPath(f, elf.DT_RUNPATH, file); err != nil {
		return nil, err
	}
	if len(o.runpath) > 0 {
		o.rpath = nil
	}
	return o, nil
}

// searchPath returns the folders of a DT_RPATH or DT_RUNPATH with $ORIGIN, the
// folder of the file itself, put in.
func searchPath(f *elf.File, tag elf.DynTag, file string) ([]string, error) {
	values, err := f.DynString(tag)
	if err != nil {
		return nil, fmt.Errorf("read %v of %s: %w", tag, file, err)
	}
	var dirs []string
	for _, value := range values {
		for dir := range strings.SplitSeq(value, ":") {
			dir = strings.NewReplacer("${ORIGIN}", path.Dir(file), "$ORIGIN", path.Dir(file)).Replace(dir)
			if path.IsAbs(dir) {
				dirs = append(dirs, path.Clean(dir))
			}
		}
	}
	return dirs, nil
}

// linker follows needed libraries into a tree, each once.
type linker struct {
	tree  *tree
	cache map[string]string
	done  map[string]bool
	dirs  []string
}

// add adds what o needs, and what that needs. inherited is the DT_RPATH of those
// that led here. It returns the names that were not found.
func (l *linker) add(o *object, inherited []string) (missing []string, err error) {
	inherited = append(inherited[:len(inherited):len(inherited)], o.rpath...)
	for _, name := range o.needed {
		found := l.find(name, o.runpath, inherited)
		if found == nil {
			missing = append(missing, name)
			continue
		}
		if l.done[found.path] {
			continue
		}
		l.done[found.path] = true
		if err := l.tree.addFile(found.path, found.path); err != nil {
			return nil, err
		}
		l.dirs = append(l.dirs, path.Dir(found.path))
		below, err := l.add(found, inherited)
		if err != nil {
			return nil, err
		}
		missing = append(missing, below...)
	}
	return missing, nil
}

// find looks for a library in the loader's order: DT_RPATH, DT_RUNPATH, the cache,
// the default folders. A file for another machine is passed over, as the loader does.
func (l *linker) find(name string, runpath, rpath []string) *object {
	var candidates []string
	if strings.Contains(name, "/") {
		candidates = []string{name}
	} else {
		for _, dirs := range [][]string{rpath, runpath} {
			for _, dir := range dirs {
				candidates = append(candidates, path.Join(dir, name))
			}
		}
		if cached, ok := l.cache[name]; ok {
			candidates = append(candidates, cached)
		}
		for _, dir := range defaultDirs {
			candidates = append(candidates, path.Join(dir, name))
		}
	}
	for _, candidate := range candidates {
		f, err := elf.Open(candidate)
		if err != nil {
			continue
		}
		fits := f.Machine == elf.EM_X86_64 && f.Class == elf.ELFCLASS64
		f.Close()
		if !fits {
			continue
		}
		if o, err := readObject(candidate); err == nil {
			return o
		}
	}
	return nil
}
