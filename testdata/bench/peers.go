package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// The peers, by the folder that holds their module and their package in it.
var peers = map[string]struct{ module, pkg string }{
	"kubectl": {"testdata/peers", "./kubectl"},
	"flux":    {"testdata/peers", "./flux"},
	"argocd":  {"testdata/peers/argocd", "."},
}

// What peers are called in the table.
const (
	fluxName   = "Flux (fluxcd/pkg/ssa, 8 at a time)"
	argoName   = "Argo CD (gitops-engine)"
	kubectlOne = "kubectl"
)

// peer gives a peer's binary, building it when the user's cache has none of this source: a
// minute or two each, once.
func (r *report) peer(ctx context.Context, name string) (string, error) {
	p := peers[name]
	hash := sha256.New()
	for _, file := range []string{"go.mod", "go.sum", filepath.Join(p.pkg, "main.go")} {
		content, err := os.ReadFile(filepath.Join(p.module, file))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(hash, "%s %d\n", file, len(content))
		hash.Write(content)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "amlaks", "peers", name+"-"+hex.EncodeToString(hash.Sum(nil))[:16])
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	r.say("building %s, once", name)
	partial := fmt.Sprintf("%s.%d", binary, os.Getpid())
	defer os.Remove(partial)
	cmd := exec.CommandContext(ctx, "go", "build", "-C", p.module, "-mod=readonly", "-trimpath", "-o", partial, p.pkg)
	cmd.Env, cmd.Stderr = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off"), os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return binary, os.Rename(partial, binary)
}
