package model

import (
	"os"
	"path/filepath"
	"testing"
)

// The hash of an unchanged file comes from what stat says, in this process and the next.
func TestHashesAreRemembered(t *testing.T) {
	cache, file := t.TempDir(), filepath.Join(t.TempDir(), "weights")
	if err := os.WriteFile(file, []byte("one"), 0o644); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHashes(cache)
	if err != nil {
		t.Fatal(err)
	}
	first, err := h.File(file)
	if err != nil {
		t.Fatal(err)
	}
	for key := range h.known {
		h.known[key] = "remembered"
	}
	if err := h.Save(); err != nil {
		t.Fatal(err)
	}
	if h, err = OpenHashes(cache); err != nil {
		t.Fatal(err)
	}
	if got, err := h.File(file); err != nil || got != "remembered" {
		t.Errorf("unchanged file: %q, %v; it was read again", got, err)
	}
	if err := os.WriteFile(file, []byte("three"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := h.File(file); err != nil || got == "remembered" || got == first {
		t.Errorf("changed file: %q, %v", got, err)
	}
}
