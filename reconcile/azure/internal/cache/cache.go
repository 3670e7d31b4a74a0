// Package cache keeps answers of Azure that hold for a day in a folder: what VM sizes there
// are, and what they cost. A file that is not whole, or not of this program, is as good as none.
package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// Lasts is how long an answer holds.
	Lasts = 24 * time.Hour
	// forgotten is when a file that nobody has written anew goes: its region is used no more.
	forgotten = 30 * 24 * time.Hour
	maxFile   = 16 << 20
	suffix    = ".json"
)

// Dir is a folder of answers. The zero value keeps nothing.
type Dir struct {
	Path string
	// Now is the clock; nil: the machine's.
	Now func() time.Time
}

// file is what stands in one.
type file struct {
	Format int             `json:"format"`
	Key    []string        `json:"key"`
	Time   time.Time       `json:"time"`
	Value  json.RawMessage `json:"value"`
}

// format is that of the values; a program that writes others has another.
const format = 1

// Get reads the answer to a question (its key) into value, and tells whether there is one.
func (d Dir) Get(key []string, value any) bool {
	if d.Path == "" {
		return false
	}
	f, err := os.Open(d.name(key))
	if err != nil {
		return false
	}
	defer f.Close()
	var kept file
	if json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&kept) != nil || kept.Format != format || strings.Join(kept.Key, "\n") != strings.Join(key, "\n") {
		return false
	}
	age := d.now().Sub(kept.Time)
	return age >= 0 && age < Lasts && json.Unmarshal(kept.Value, value) == nil
}

// Put keeps an answer. The file is whole at any time, and nobody else may read it.
func (d Dir) Put(key []string, value any) error {
	if d.Path == "" {
		return nil
	}
	content, err := json.Marshal(value)
	if err == nil {
		content, err = json.Marshal(file{Format: format, Key: key, Time: d.now().UTC(), Value: content})
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return err
	}
	d.sweep()
	f, err := os.CreateTemp(d.Path, "*.tmp") // of mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), d.name(key))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// sweep takes away what nobody asks for any more, and what a killed process left behind.
func (d Dir) sweep() {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		age := d.now().Sub(info.ModTime())
		if strings.HasSuffix(entry.Name(), suffix) && age > forgotten || strings.HasSuffix(entry.Name(), ".tmp") && age > Lasts {
			if err := os.Remove(filepath.Join(d.Path, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return // it stays, and costs some kilobytes
			}
		}
	}
}

func (d Dir) name(key []string) string {
	sum := sha256.Sum256([]byte(strings.Join(key, "\n")))
	return filepath.Join(d.Path, key[0]+"-"+hex.EncodeToString(sum[:8])+suffix)
}

func (d Dir) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}
