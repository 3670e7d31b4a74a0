package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/amlaks/amlaks/reconcile/source"
)

// tree is a fetched revision.
type tree struct {
	Revision source.Revision
	dir      string
}

// workDir is the daemon's folder: trees/ holds one folder a revision, last.json names the last
// good one. A tree is complete once last.json names it, so nothing has to be checked on start.
// lock is locked for as long as a daemon uses the folder: a second one would remove the trees
// of the first.
type workDir struct {
	dir    string
	source string
	lock   *os.File
}

// lastGood is last.json. Source guards against a folder that was used for another repository.
type lastGood struct {
	Source   string          `json:"source"`
	Revision source.Revision `json:"revision"`
	Tree     string          `json:"tree"` // name under trees/
}

// maxLastGood is well above what lastGood can take.
const maxLastGood = 64 << 10

// openWorkDir makes the folder and locks it until close, gives the last good tree if there is
// one, and removes the rest.
func openWorkDir(dir, from string) (_ *workDir, good *tree, err error) {
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	w := &workDir{dir: absolute, source: from}
	if err := os.MkdirAll(w.trees(), 0o700); err != nil {
		return nil, nil, err
	}
	if w.lock, err = os.OpenFile(filepath.Join(w.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	alone, err := tryLock(w.lock)
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("lock %s: %w", w.lock.Name(), err)
	case !alone:
		return nil, nil, fmt.Errorf("another daemon runs on %s: give each its own with --work-dir", w.dir)
	}
	if good, err = w.load(); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(w.trees())
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		if good == nil || entry.Name() != filepath.Base(good.dir) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(w.trees(), entry.Name())))
		}
	}
	return w, good, err
}

// close lets another daemon have the folder.
func (w *workDir) close() { _ = w.lock.Close() } // nothing was written to it

func (w *workDir) trees() string { return filepath.Join(w.dir, "trees") }
func (w *workDir) last() string  { return filepath.Join(w.dir, "last.json") }

func (w *workDir) load() (*tree, error) {
	f, err := os.Open(w.last())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLastGood))
	if err != nil {
		return nil, err
	}
	var last lastGood
	if json.Unmarshal(data, &last) != nil || last.Source != w.source || last.Tree != filepath.Base(last.Tree) {
		return nil, nil // of another repository, or not ours: the next good tree replaces it
	}
	dir := filepath.Join(w.trees(), last.Tree)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, nil
	}
	return &tree{Revision: last.Revision, dir: dir}, nil
}

// save makes t the last good tree. The rename is what makes it so, at once and as a whole.
func (w *workDir) save(t *tree) error {
	data, err := json.Marshal(lastGood{Source: w.source, Revision: t.Revision, Tree: filepath.Base(t.dir)})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(w.dir, ".last-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), w.last())
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// place names a folder for rev that is not there yet.
func (w *workDir) place(rev source.Revision) (string, error) {
	for n := 1; n < 1000; n++ {
		dir := filepath.Join(w.trees(), fmt.Sprintf("%s-%d", rev.Hash, n))
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			return dir, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s is full of trees of %s", w.trees(), rev.Hash)
}

func (w *workDir) remove(t *tree) error { return os.RemoveAll(t.dir) }
