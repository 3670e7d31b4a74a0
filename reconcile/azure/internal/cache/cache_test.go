package cache

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

type answer struct{ Sizes []string }

func TestDir(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	d := Dir{Path: filepath.Join(t.TempDir(), "made", "below"), Now: func() time.Time { return now }}
	key, other := []string{"skus", "sub", "westeurope"}, []string{"skus", "sub", "northeurope"}
	var got answer
	if d.Get(key, &got) {
		t.Fatal("an answer before any was kept")
	}
	if err := d.Put(key, answer{[]string{"a", "b"}}); err != nil {
		t.Fatal(err)
	}
	if !d.Get(key, &got) || len(got.Sizes) != 2 {
		t.Errorf("kept two, got %v", got)
	}
	if d.Get(other, &got) {
		t.Error("the answer to another question")
	}
	info, err := os.Stat(d.name(key))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	now = now.Add(Lasts - time.Second)
	if !d.Get(key, &got) {
		t.Error("it does not last")
	}
	now = now.Add(time.Second)
	if d.Get(key, &got) {
		t.Error("it lasts for ever")
	}
	now = now.Add(-2 * Lasts)
	if d.Get(key, &got) {
		t.Error("an answer of the future")
	}
}

func TestWhatIsNoAnswer(t *testing.T) {
	key := []string{"skus", "a"}
	for name, content := range map[string]string{
		"empty": "", "cut off": `{"format":1,"key":["skus","a"],"ti`, "no JSON": "\x00\x00", "of another program": `{"format":2,"key":["skus","a"],"time":"2099-01-01T00:00:00Z","value":{}}`,
		"of another question": `{"format":1,"key":["skus","b"],"time":"2026-11-23T00:00:00Z","value":{}}`,
		"of another shape":    `{"format":1,"key":["skus","a"],"time":"2026-11-23T00:00:00Z","value":[1]}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := Dir{Path: t.TempDir(), Now: func() time.Time { return time.Date(2026, 11, 23, 1, 0, 0, 0, time.UTC) }}
			if err := os.WriteFile(d.name(key), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			var got answer
			if d.Get(key, &got) {
				t.Errorf("taken for an answer: %v", got)
			}
			if err := d.Put(key, answer{[]string{"a"}}); err != nil || !d.Get(key, &got) {
				t.Errorf("cannot be replaced: %v", err)
			}
		})
	}
}

func TestNoDir(t *testing.T) {
	var d Dir
	if err := d.Put([]string{"a"}, 1); err != nil || d.Get([]string{"a"}, new(int)) {
		t.Errorf("something was kept nowhere: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Dir{Path: file}).Put([]string{"a"}, 1); err == nil {
		t.Error("kept in what is no folder")
	}
}

// TestSweep keeps the folder from growing.
func TestSweep(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	old, left := d.name([]string{"skus", "old"}), filepath.Join(d.Path, "1.tmp")
	strange := filepath.Join(d.Path, "strange")
	for _, name := range []string{old, left, strange} {
		if err := os.WriteFile(name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		long := time.Now().Add(-forgotten - time.Hour)
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Put([]string{"skus", "new"}, 1); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{old: false, left: false, strange: true, d.name([]string{"skus", "new"}): true} {
		if _, err := os.Stat(name); (err == nil) != want {
			t.Errorf("%s: there %v, want %v", filepath.Base(name), err == nil, want)
		}
	}
}
