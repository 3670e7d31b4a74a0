// Package files writes the sandbox's state so that a kill at any moment leaves the old
// content or the new, never half of one.
package files

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxJSON bounds what ReadJSON reads.
const maxJSON = 256 << 20

// Write replaces a file in one step.
func Write(name string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(content)
	err = errors.Join(err, file.Chmod(mode), file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return os.Rename(file.Name(), name)
}

// WriteJSON replaces a file, readable for its owner alone, by value as JSON.
func WriteJSON(name string, value any) error {
	content, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return Write(name, append(content, '\n'), 0o600)
}

// ReadJSON decodes a file into value; the error is fs.ErrNotExist when there is none.
func ReadJSON(name string, value any) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := json.NewDecoder(io.LimitReader(file, maxJSON)).Decode(value); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
