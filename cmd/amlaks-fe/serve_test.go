package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// apiServer speaks as much of list and watch as informers need.
type apiServer struct {
	mu      sync.Mutex
	objects map[string][]map[string]any // by path
	watches map[string][]chan map[string]any
	queries map[string]string
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	kind, version := map[string]string{"configmaps": "ConfigMap", "secrets": "Secret", "endpointslices": "EndpointSlice"}[filepath.Base(r.URL.Path)], "v1"
	if kind == "" {
		http.NotFound(w, r)
		return
	}
	if kind == "EndpointSlice" {
		version = "discovery.k8s.io/v1"
	}
	a.mu.Lock()
	a.queries[kind] = r.URL.Query().Get("fieldSelector") + r.URL.Query().Get("labelSelector")
	objects := a.objects[kind]
	if r.URL.Query().Get("watch") == "" {
		defer a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(map[string]any{"kind": kind + "List", "apiVersion": version, "metadata": map[string]any{"resourceVersion": "1"}, "items": objects})
		return
	}
	events := make(chan map[string]any, 16)
	a.watches[kind] = append(a.watches[kind], events)
	a.mu.Unlock()
	flush := http.NewResponseController(w).Flush
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range objects {
			_ = json.NewEncoder(w).Encode(map[string]any{"type": "ADDED", "object": o})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"kind": kind, "apiVersion": version,
			"metadata": map[string]any{"resourceVersion": "1", "annotations": map[string]any{"k8s.io/initial-events-end": "true"}}}})
	}
	_ = flush()
	for {
		select {
		case e := <-events:
			_ = json.NewEncoder(w).Encode(e)
			_ = flush()
		case <-r.Context().Done():
			return
		}
	}
}

func (a *apiServer) event(kind, what string, object map[string]any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range a.watches[kind] {
		w <- map[string]any{"type": what, "object": object}
	}
}

func object(kind, name, version string, labels, rest map[string]any) map[string]any {
	api := "v1"
	if kind == "EndpointSlice" {
		api = "discovery.k8s.io/v1"
	}
	o := map[string]any{"kind": kind, "apiVersion": api, "metadata": map[string]any{"name": name, "namespace": "ns", "labels": labels, "resourceVersion": version}}
	for k, v := range rest {
		o[k] = v
	}
	return o
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestRun(t *testing.T) {
	entered, release := make(chan struct{}, 1), make(chan struct{})
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "slow" {
			entered <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "scored")
	}))
	defer model.Close()
	_, modelPort, _ := net.SplitHostPort(model.Listener.Addr().String())
	slice := func(version string, ready bool) map[string]any {
		return object("EndpointSlice", "churn-1", version, map[string]any{"kubernetes.io/service-name": "churn"}, map[string]any{
			"addressType": "IPv4", "endpoints": []any{map[string]any{"addresses": []any{"127.0.0.1"}, "conditions": map[string]any{"ready": ready}}}})
	}
	keys := func(version, key string) map[string]any {
		return object("Secret", "churn-keys", version, map[string]any{"amlaks.io/keys": "true"}, map[string]any{"data": map[string]any{"primaryKey": []byte(key)}})
	}
	api := &apiServer{watches: map[string][]chan map[string]any{}, queries: map[string]string{}, objects: map[string][]map[string]any{
		"ConfigMap": {object("ConfigMap", "amlaks-routes", "1", nil, map[string]any{"data": map[string]any{"routes.json": `{"stack":"s","services":[{
			"name":"churn","authMode":"key","keysSecret":"churn-keys","scoringTimeoutMs":60000,"maxQueueWaitMs":20,"maxConcurrent":1,
			"versions":[{"name":"default","backend":"churn","port":` + modelPort + `,"scoringPath":"/score","percent":100,"default":true}]}]}`}})},
		"Secret":        {keys("1", "one")},
		"EndpointSlice": {slice("1", true)},
	}}
	apiHTTP := httptest.NewServer(api)
	defer apiHTTP.Close()
	kubeconfig := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(kubeconfig, fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c"}}]}`, apiHTTP.URL), 0o600); err != nil {
		t.Fatal(err)
	}

	port, admin := freePort(t), freePort(t)
	ctx, terminate := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"-pod-ip", "127.0.0.1", "-namespace", "ns", "-service", "amlaks-fe", "-kubeconfig", kubeconfig,
			"-port", port, "-admin-port", admin, "-drain-delay", "10ms"}, func(string) string { return "" }, io.Discard)
	}()
	get := func(url, key string) (int, string) {
		req, _ := http.NewRequest("GET", url, nil)
		req.Header.Set("Authorization", "Bearer "+key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	eventually := func(what, url, key string, want int) {
		t.Helper()
		deadline := time.After(20 * time.Second)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			status, body := get(url, key)
			if status == want {
				return
			}
			select {
			case <-deadline:
				t.Fatalf("%s: %d %s, want %d", what, status, body, want)
			case <-tick.C:
			}
		}
	}
	score := "http://127.0.0.1:" + port + "/api/v1/service/churn/score"
	eventually("ready", "http://127.0.0.1:"+admin+"/readyz", "", 200)
	if status, body := get(score, "one"); status != 200 || body != "scored" {
		t.Fatalf("score: %d %s", status, body)
	}
	api.event("Secret", "MODIFIED", keys("2", "two"))
	eventually("new key", score, "two", 200)
	if status, _ := get(score, "one"); status != 401 {
		t.Errorf("old key: %d", status)
	}
	api.event("EndpointSlice", "MODIFIED", slice("3", false))
	eventually("replica not ready", score, "two", 503)
	api.event("EndpointSlice", "MODIFIED", slice("4", true))
	eventually("replica ready", score, "two", 200)
	if _, body := get("http://127.0.0.1:"+admin+"/metrics", ""); !strings.Contains(body, `amlaks_requests_total{code="200",service="churn",version="default"}`) || !strings.Contains(body, "amlaks_build_info") {
		t.Errorf("metrics:\n%s", body)
	}
	api.mu.Lock()
	for kind, want := range map[string]string{"ConfigMap": "metadata.name=amlaks-routes", "Secret": "amlaks.io/keys=true", "EndpointSlice": "kubernetes.io/service-name"} {
		if api.queries[kind] != want {
			t.Errorf("%s is watched with %q, want %q", kind, api.queries[kind], want)
		}
	}
	api.mu.Unlock()

	// A request in flight survives the end.
	last := make(chan int, 1)
	go func() { status, _ := get(score+"?slow", "two"); last <- status }()
	<-entered
	terminate()
	eventually("not ready any more", "http://127.0.0.1:"+admin+"/readyz", "", 503)
	close(release)
	if status := <-last; status != 200 {
		t.Errorf("in flight while draining: %d", status)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
