package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile/kube/certificate/certificatetest"
)

// logged is what a front end says, read while it says more.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestRunTLS: the certificate comes from its Secret, alone by its name; before it is there the
// front end is not ready, and one that is no good leaves the last.
func TestRunTLS(t *testing.T) {
	root := certificatetest.Root(t)
	secret := func(version string, chain, key []byte) map[string]any {
		return object("Secret", "amlaks-fe-tls", version, nil, map[string]any{"type": "kubernetes.io/tls", "data": map[string]any{"tls.crt": chain, "tls.key": key}})
	}
	api := &apiServer{watches: map[string][]chan map[string]any{}, queries: map[string]string{}, objects: map[string][]map[string]any{}}
	var mu sync.Mutex
	selectors := map[string]bool{}
	apiHTTP := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/secrets") {
			mu.Lock()
			selectors[r.URL.Query().Get("fieldSelector")+r.URL.Query().Get("labelSelector")] = true
			mu.Unlock()
		}
		api.ServeHTTP(w, r)
	}))
	defer apiHTTP.Close()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(kubeconfig, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`, apiHTTP.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	port, admin, tlsPort := freePort(t), freePort(t), freePort(t)
	ctx, terminate := context.WithCancel(t.Context())
	done := make(chan error, 1)
	var log logged
	go func() {
		done <- run(ctx, []string{"-pod-ip", "127.0.0.1", "-namespace", "ns", "-kubeconfig", kubeconfig, "-tls-secret", "amlaks-fe-tls", "-tls-port", tlsPort,
			"-port", port, "-admin-port", admin, "-drain-delay", "10ms"}, func(string) string { return "" }, &log)
	}()
	roots := x509.NewCertPool()
	roots.AddCert(root.Cert)
	get := func(url string) (status int, body, serial string) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "score.example.com"}, DisableKeepAlives: true}
		resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Get(url)
		if err != nil {
			return 0, err.Error(), ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.TLS != nil {
			serial = resp.TLS.PeerCertificates[0].SerialNumber.String()
		}
		return resp.StatusCode, string(b), serial
	}
	eventually := func(what string, ok func() bool) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for !ok() {
			select {
			case <-deadline:
				t.Fatalf("not in time: %s\n%s", what, log.String())
			case <-tick.C:
			}
		}
	}
	ready := func() int { status, _, _ := get("http://127.0.0.1:" + admin + "/readyz"); return status }
	shown := func() string { _, _, serial := get("https://127.0.0.1:" + tlsPort + "/"); return serial }

	// The plain port answers first: by then everything but the certificate has been heard.
	eventually("synced", func() bool {
		status, body, _ := get("http://127.0.0.1:" + port + "/")
		return status == 200 && body == "Healthy"
	})
	if status := ready(); status != http.StatusServiceUnavailable {
		t.Errorf("without a certificate: ready %d", status)
	}
	first := root.Issue(t, "score.example.com", nil)
	chain, key := first.PEM(t)
	api.event("Secret", "ADDED", secret("2", chain, key))
	eventually("ready", func() bool { return ready() == http.StatusOK })
	if got := shown(); got != first.Cert.SerialNumber.String() {
		t.Errorf("shown %s", got)
	}
	api.event("Secret", "MODIFIED", secret("3", chain, []byte("no key")))
	eventually("the refusal is logged", func() bool { return strings.Contains(log.String(), "certificate not taken over") })
	if got := shown(); got != first.Cert.SerialNumber.String() || ready() != http.StatusOK {
		t.Errorf("after one that is no good: shown %s, ready %d", got, ready())
	}
	api.event("Secret", "DELETED", secret("4", chain, key))
	second := root.Issue(t, "score.example.com", nil)
	chain, key = second.PEM(t)
	api.event("Secret", "ADDED", secret("5", chain, key))
	eventually("the new one", func() bool { return shown() == second.Cert.SerialNumber.String() })
	if _, body, _ := get("http://127.0.0.1:" + admin + "/metrics"); !strings.Contains(body, "amlaks_fe_certificates_rejected_total 1") || !strings.Contains(body, "amlaks_fe_certificate_not_after_seconds{sha256=") {
		t.Errorf("metrics:\n%s", body)
	}
	mu.Lock()
	if !selectors["metadata.name=amlaks-fe-tls"] || !selectors["amlaks.io/keys=true"] || len(selectors) != 2 {
		t.Errorf("Secrets are watched by %v", selectors)
	}
	mu.Unlock()
	if said := log.String(); strings.Contains(said, "PRIVATE") || strings.Contains(said, "no key") {
		t.Errorf("the log holds a key: %s", said)
	}
	terminate()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
