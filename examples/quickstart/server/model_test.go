package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadModelRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*model)
		want   string
	}{
		"no version":       {func(m *model) { m.Version = "" }, "version is missing"},
		"one class":        {func(m *model) { m.Classes = m.Classes[:1] }, "1 classes"},
		"means":            {func(m *model) { m.Means = m.Means[1:] }, "3 means"},
		"scale of nothing": {func(m *model) { m.Scales[2] = 0 }, "a scale is 0"},
		"intercepts":       {func(m *model) { m.Intercepts = nil }, "0 intercepts"},
		"coefficients":     {func(m *model) { m.Coefficients[1] = m.Coefficients[1][:2] }, "class_1: 4 features, but 2 coefficients"},
		"unknown feature":  {func(m *model) { m.Features[0] = "price" }, `feature "price" is none of the inputs`},
	} {
		t.Run(name, func(t *testing.T) {
			var m model
			readJSON(t, "../model/1/wine.json", &m)
			test.change(&m)
			b, err := json.Marshal(&m)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "wine.json"), b, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := loadModel(dir); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestLoadModelFindsTheFile(t *testing.T) {
	// The parent of both versions: which of the two was meant is not ours to guess.
	if _, err := loadModel("../model"); err == nil || !strings.Contains(err.Error(), "found 2") {
		t.Errorf("two files: %v", err)
	}
	if _, err := loadModel(t.TempDir()); err == nil || !strings.Contains(err.Error(), "found 0") {
		t.Errorf("no file: %v", err)
	}
	if _, err := loadModel(filepath.Join(t.TempDir(), "gone")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	// A registered folder keeps its name below AZUREML_MODEL_DIR.
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "2"), os.DirFS("../model/2")); err != nil {
		t.Fatal(err)
	}
	m, err := loadModel(dir)
	if err != nil || m.id() != "wine:2" {
		t.Errorf("a folder below: %v", err)
	}
}

// A request that is being scored when SIGTERM comes still gets its answer.
func TestServeDrains(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m, err := loadModel("../model/2")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan struct{}), make(chan struct{})
	inner := newHandler(m, slog.New(slog.DiscardHandler))
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		inner.ServeHTTP(w, r)
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listener, slow) }()
	answer := make(chan string, 1)
	go func() {
		response, err := http.Get("http://" + listener.Addr().String() + "/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(response.Body, 100))
		answer <- string(body)
	}()
	<-entered
	stop()
	// The listener closes first: from then on the drain has begun.
	deadline, tick := time.After(10*time.Second), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for closed := false; !closed; {
		select {
		case <-tick.C:
			conn, err := net.Dial("tcp", listener.Addr().String())
			if closed = err != nil; !closed {
				conn.Close()
			}
		case <-deadline:
			t.Fatal("still accepting 10 s after the context ended")
		}
	}
	close(release)
	if got := <-answer; got != "Healthy" {
		t.Errorf("the request in flight got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}
