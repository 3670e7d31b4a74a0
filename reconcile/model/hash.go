package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Hashes tells the SHA-256 of files, and remembers it by what stat says of them, so that an
// unchanged file is not read again. The memory lies in one file of the cache folder; losing
// it costs time and nothing else. It is safe for concurrent use.
type Hashes struct {
	path string

	mu    sync.Mutex
	known map[string]string // stat key -> hex digest
	dirty bool
}

// maxIndex bounds the remembered index; a larger one is thrown away.
const maxIndex = 64 << 20

// OpenHashes reads the memory of a cache folder.
func OpenHashes(cacheDir string) (*Hashes, error) {
	h := &Hashes{path: filepath.Join(cacheDir, "hashes.json"), known: map[string]string{}}
	file, err := os.Open(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := json.NewDecoder(io.LimitReader(file, maxIndex)).Decode(&h.known); err != nil || h.known == nil {
		h.known = map[string]string{} // half written by a process that was killed
	}
	return h, nil
}

// File gives a file's SHA-256 in hex.
func (h *Hashes) File(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s: is not a regular file (%s)", path, info.Mode().Type())
	}
	key, err := statKey(path, info)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	digest, ok := h.known[key]
	h.mu.Unlock()
	if ok {
		return digest, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	digest = hex.EncodeToString(sum.Sum(nil))
	h.mu.Lock()
	h.known[key], h.dirty = digest, true
	h.mu.Unlock()
	return digest, nil
}

// statKey changes whenever a file could have: its inode's change time cannot be set back.
func statKey(path string, info fs.FileInfo) (string, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	key := fmt.Sprintf("%s|%d|%d|%o", absolute, info.Size(), info.ModTime().UnixNano(), info.Mode())
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		key += fmt.Sprintf("|%d|%d|%d", stat.Dev, stat.Ino, changed(stat))
	}
	return key, nil
}

// Tree gives one digest of a file or folder: of the paths, exec bits, links and contents in it.
func (h *Hashes) Tree(ctx context.Context, root string) (string, error) {
	base := filepath.Base(root) // a file keeps the name that it was asked for by
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	var lines []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = base
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			content = "-> " + link
		} else if content, err = h.File(path); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s %t %s", filepath.ToSlash(rel), info.Mode()&0o111 != 0, content))
		return nil
	})
	if err != nil {
		return "", err
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:]), nil
}

// Save writes what was learnt, for the next process.
func (h *Hashes) Save() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dirty {
		return nil
	}
	data, err := json.Marshal(h.known)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(h.path), 0o700); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(filepath.Dir(h.path), "hashes-*")
	if err != nil {
		return err
	}
	_, err = temporary.Write(data)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	h.dirty = false
	return os.Rename(temporary.Name(), h.path)
}
