package model

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/spec"
)

// Versions that have the same content share its bytes, and a blob that two versions point at is
// not even fetched twice.
func TestSharedContent(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := large()
	w.register("churn", "3", content)
	w.register("churn", "4", content) // the same, uploaded again
	if err := w.RegisterModelURI("churn", "5", "azureml://datastores/workspaceblobstore/paths/models/churn/4/model"); err != nil {
		t.Fatal(err)
	}
	var kept []os.FileInfo
	for i, version := range []string{"3", "4", "5"} {
		dir, err := w.client().Files(patient(t), spec.Model{Name: "churn", Version: version}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		want(t, read(t, dir), content)
		info, err := os.Stat(filepath.Join(dir, "model", "weights.bin"))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, info)
		if !os.SameFile(kept[0], info) || info.Mode().Perm() != 0o444 {
			t.Errorf("version %s has bytes of its own, or they can be written (%s)", version, info.Mode())
		}
		if got, want := len(w.blobReads()), ranges*min(i+1, 2); got != want {
			t.Errorf("%d ranges fetched after version %s, want %d", got, version, want)
		}
	}
	objects, err := os.ReadDir(filepath.Join(w.cache, "models", "objects"))
	if err != nil || len(objects) != 1 {
		t.Errorf("%d objects, want 1: %v", len(objects), err)
	}
}

// What somebody has written into the cache is noticed, and fetched again.
func TestSpoiltCache(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := weights(1, 1000)
	w.register("churn", "3", content)
	for name, spoilIt := range map[string]func(t *testing.T, file string){
		"another byte": func(t *testing.T, file string) { spoil(t, file, 500) },
		"shorter": func(t *testing.T, file string) {
			if err := os.Chmod(file, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, 10); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(t *testing.T, file string) {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		},
		"a file more": func(t *testing.T, file string) {
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "more"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"no manifest": func(t *testing.T, file string) {
			if err := os.WriteFile(filepath.Join(filepath.Dir(file), "..", "..", manifestName), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := w.client().Files(patient(t), churn, quiet)
			if err != nil {
				t.Fatal(err)
			}
			spoilIt(t, filepath.Join(dir, "model", "weights.bin"))
			want(t, files(t, w.client(), churn), content)
		})
	}
	before := len(w.Requests("blob"))
	want(t, files(t, w.client(), churn), content)
	if after := len(w.Requests("blob")); after != before {
		t.Errorf("%d requests to the blob store for a model that is here", after-before)
	}
}

// A time stamp that changed, by a backup that was put back, costs a read and no download.
func TestTouchedCache(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := weights(1, 1000)
	w.register("churn", "3", content)
	dir, err := w.Files(patient(t), churn, quiet)
	if err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "model", "weights.bin"), then, then); err != nil {
		t.Fatal(err)
	}
	w.ClearRequests()
	want(t, files(t, w.Client, churn), content)
	if n := len(w.Requests("blob")); n != 0 {
		t.Errorf("%d requests to the blob store", n)
	}
}

// What nobody has asked for in a month goes, and its bytes with it, unless others share them.
func TestPrune(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for version, content := range map[string]string{"1": "shared", "2": "shared", "3": "alone"} {
		w.register("churn", version, []byte(content))
		files(t, w.Client, spec.Model{Name: "churn", Version: version})
	}
	cache := cache{dir: filepath.Join(w.cache, "models")}
	writeOld := func(name string) {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeOld(filepath.Join(cache.dir, "partial", "left"))
	writeOld(filepath.Join(cache.dir, "known", ".new-left"))
	now := time.Now()
	cache.prune(now)
	if n := count(t, cache.dir); n != 3+2+3+2 {
		t.Errorf("%d entries, and nothing is old", n)
	}
	later := now.Add(unused + time.Hour)
	dir, ok, err := cache.get(t.Context(), treeOf(t, w, "1"))
	if err != nil || !ok {
		t.Fatal(dir, ok, err)
	}
	used := filepath.Join(filepath.Dir(dir), manifestName)
	if err := os.Chtimes(used, later, later); err != nil {
		t.Fatal(err)
	}
	cache.prune(later)
	left, err := filepath.Glob(filepath.Join(cache.dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range left {
		left[i] = filepath.Base(filepath.Dir(left[i]))
	}
	if got, want := strings.Join(left, " "), "known known objects trees"; got != want {
		t.Errorf("left: %s, want %s: the tree in use, what it shares, and who shared it", got, want)
	}
	w.ClearRequests()
	if got := files(t, w.Client, spec.Model{Name: "churn", Version: "3"}); string(got["model/weights.bin"]) != "alone" || len(w.blobReads()) != 1 {
		t.Errorf("a pruned version: %s, %d blobs read", got, len(w.blobReads()))
	}
}

func treeOf(t *testing.T, w *world, version string) string {
	t.Helper()
	found, err := w.find(t.Context(), spec.Model{Name: "churn", Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return treeKey(found)
}

func count(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}
