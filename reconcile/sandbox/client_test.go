package sandbox_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// A unix socket's path has room for 107 bytes; a folder's for many more.
func TestClientOfLongFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	s := start(t, dir)
	client, err := sandbox.Connect(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := client.Info(t.Context())
	if err != nil || !info.Ready {
		t.Errorf("ready %v, %v", info.Ready, err)
	}
	if err := client.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "byhand"}); err != nil {
		t.Fatal(err)
	}
	if err := client.Overlay(t.Context(), clusterID("byhand"), map[string]any{"tags": map[string]any{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	clusters, _ := aks(t, s)
	live, err := clusters.Get(t.Context(), group, "byhand", nil)
	if err != nil || *live.Tags["a"] != "b" {
		t.Errorf("tags %v, %v", live.Tags, err)
	}
	if err := client.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "../x"}); err == nil {
		t.Error("a cluster of an impossible name was made")
	}
	s.Close()
	if left, err := filepath.Glob(filepath.Join(os.TempDir(), "amlaks-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := sandbox.Connect(t.Context(), dir); err == nil {
		t.Error("a closed sandbox answers")
	}
}

// What holds the token or a key is for its owner alone.
func TestFilePermissions(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	for _, name := range []string{"env", "sandbox.json", "arm.json", "kubeconfig", "admin.sock", "ssh/id_ed25519", "ssh/host_ed25519"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: mode %o", name, mode)
		}
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil || !strings.Contains(string(env), "export AMLAKS_ARM_ENDPOINT='"+s.ARMEndpoint()+"'\n") {
		t.Errorf("env is %s, %v", env, err)
	}
}
