package cluster

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ports of a control plane that is still dying are waited for.
func TestAwaitFree(t *testing.T) {
	s, err := openState(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	if err := s.awaitFree(t.Context()); err != nil {
		t.Fatalf("free ports: %v", err)
	}
	dying, err := net.Listen("tcp4", s.endpoint(portAPIServer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dying.Close() })
	short, cancel := context.WithTimeout(t.Context(), 3*pollEvery)
	defer cancel()
	err = s.awaitFree(short)
	if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "the port of kube-apiserver") {
		t.Errorf("a taken port: %v", err)
	}
	time.AfterFunc(3*pollEvery, func() { dying.Close() })
	if err := s.awaitFree(t.Context()); err != nil {
		t.Errorf("a port that becomes free: %v", err)
	}
}
