package spec

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// files looks for the files that a stack names. A root keeps symbolic links
// inside the folder too.
type files struct{ root *os.Root }

// openFiles opens dir; with an empty or unreadable dir no file is looked for.
func openFiles(dir string) *files {
	if dir == "" {
		return &files{}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return &files{}
	}
	return &files{root: root}
}

func (f *files) close() {
	if f.root != nil {
		f.root.Close() // only read from
	}
}

// kindOf is what a path should be.
type kindOf int

const (
	anyFile kindOf = iota
	regularFile
	folder
)

// checkPath reports a path that leaves the file's folder, or that is not there.
func (d *document) checkPath(field, name string, files *files, want kindOf) {
	if d.broken(field) || !d.checkLocal(field, name, "the folder of this file") || files.root == nil {
		return
	}
	info, err := files.root.Stat(filepath.FromSlash(path.Clean(name)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.failf(field, "paths are relative to the file", "%s does not exist", path.Clean(name))
	case err != nil:
		d.failf(field, "", "%s cannot be read: %v", path.Clean(name), cause(err))
	case want == folder && !info.IsDir():
		d.failf(field, "", "%s is not a folder", path.Clean(name))
	case want == regularFile && !info.Mode().IsRegular():
		d.failf(field, "", "%s is not a file", path.Clean(name))
	case want == anyFile && !info.IsDir() && !info.Mode().IsRegular():
		d.failf(field, "", "%s is neither a file nor a folder", path.Clean(name))
	}
}

// checkLocal reports a path that is absolute or leads out of where it starts.
// A checkout elsewhere, such as the daemon's, has nothing but the repository.
func (d *document) checkLocal(field, name, start string) bool {
	switch {
	case strings.Contains(name, `\`):
		d.fail(field, `must be written with / and not with \`, "")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		d.fail(field, "has a control character in it", "")
	case path.IsAbs(name) || !filepath.IsLocal(filepath.FromSlash(name)):
		d.fail(field, "must be a relative path that stays in "+start, "")
	default:
		return true
	}
	return false
}

// cause is the innermost error: os errors repeat the path.
func cause(err error) error {
	for errors.Unwrap(err) != nil {
		err = errors.Unwrap(err)
	}
	return err
}

var pythonFile = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*\.py$`)

func (d *document) checkEntryScript(inf *Inference, at string, files *files) {
	field := at + ".entryScript"
	switch {
	case d.broken(field) || d.broken(at+".sourceDirectory"):
	case inf.SourceDirectory == "":
		d.fail(field, "needs sourceDirectory beside it, the folder it is in", "")
	case !d.checkLocal(field, inf.EntryScript, "sourceDirectory"):
	case !pythonFile.MatchString(path.Base(inf.EntryScript)):
		d.fail(field, "must be a Python file whose name can be imported: letters, digits and _, then .py", "")
	default:
		d.checkPath(field, path.Join(inf.SourceDirectory, inf.EntryScript), files, regularFile)
	}
}
