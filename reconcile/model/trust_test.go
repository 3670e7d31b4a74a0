package model

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"
)

func TestTokensGoToAzureOnly(t *testing.T) {
	for raw, want := range map[string]bool{
		"https://acct.blob.core.windows.net/c": true, "https://acct.blob.core.chinacloudapi.cn/c": true,
		"https://acct.blob.core.usgovcloudapi.net/c": true, "http://127.0.0.1:10000/acct/c": true, "http://[::1]:10000/acct/c": true,
		"http://acct.blob.core.windows.net/c": false, "https://acct.blob.core.windows.net.example.com/c": false,
		"http://127.example.com/c": false, "https://10.0.0.1/acct/c": false, "https://blob.core.windows.net@example.com/c": false,
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := takesToken(u); got != want {
			t.Errorf("%s: %t, want %t", raw, got, want)
		}
	}
}

// A link that stands for the model is what it leads to.
func TestTreeOfALink(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "model", "w"), filepath.Join(dir, "link")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("model", link); err != nil {
		t.Fatal(err)
	}
	h, err := OpenHashes(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree := func(content string) string {
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		digest, err := h.Tree(t.Context(), link)
		if err != nil {
			t.Fatal(err)
		}
		return digest
	}
	if tree("one") == tree("three") {
		t.Error("the content behind the link does not count")
	}
}
