package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/arm"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

const (
	// maxSocketPath is what fits into sockaddr_un.sun_path with its closing zero (unix(7)).
	maxSocketPath = 107
	maxAdminBody  = 1 << 20
)

// listenAdmin listens on a unix socket in the folder; where its path is too long, in a short
// temporary folder that DIR/admin names.
func (s *Sandbox) listenAdmin() (net.Listener, error) {
	socket := s.path("admin.sock")
	if len(socket) > maxSocketPath {
		dir, err := os.MkdirTemp("", "amlaks-")
		if err != nil {
			return nil, err
		}
		socket = filepath.Join(dir, "admin.sock")
	}
	// One that a kill -9 left behind; the lock says that nobody listens on it.
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	s.socket = socket
	err = os.Chmod(socket, 0o600)
	if err == nil {
		err = files.Write(s.path("admin"), []byte(socket+"\n"), 0o600)
	}
	if err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// closeAdmin takes away what listenAdmin made; the socket has gone with its listener.
func (s *Sandbox) closeAdmin() {
	if s.socket == "" {
		return
	}
	err := os.Remove(s.path("admin"))
	if dir := filepath.Dir(s.socket); dir != s.options.Dir {
		err = errors.Join(err, os.Remove(dir))
	}
	if err != nil {
		s.options.Logf("close the admin socket: %v", err)
	}
}

// Info is what `up` prints.
type Info struct {
	Ready       bool       `json:"ready"`
	Environment []Variable `json:"environment"`
}

type modelCall struct{ Name, Version, Path string }

type overlayCall struct {
	ID    string         `json:"id"`
	Merge map[string]any `json:"merge"`
}

// ClusterRequest is an AKS cluster to be made as by hand, without a stack's tags.
type ClusterRequest struct {
	Name, ResourceGroup, VMSize string
	SubscriptionID              string // empty: the workspace's
	AgentCount                  int
}

// admin serves Client.
func (s *Sandbox) admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /requests", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.Requests(r.URL.Query().Get("service")), nil)
	})
	mux.HandleFunc("DELETE /requests", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearRequests()
		answer(w, struct{}{}, nil)
	})
	mux.HandleFunc("GET /faults", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Faults(), nil) })
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		s.ClearFaults()
		answer(w, struct{}{}, nil)
	})
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var fault Fault
		err := question(r, &fault)
		if err == nil {
			fault, err = s.Fault(fault)
		}
		answer(w, fault, err)
	})
	mux.HandleFunc("POST /models", func(w http.ResponseWriter, r *http.Request) {
		var call modelCall
		err := question(r, &call)
		if err == nil {
			err = s.RegisterModel(call.Name, call.Version, call.Path)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /overlays", func(w http.ResponseWriter, r *http.Request) {
		var call overlayCall
		err := question(r, &call)
		if err == nil {
			err = s.Overlay(call.ID, call.Merge)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /repositories/{name}", func(w http.ResponseWriter, r *http.Request) {
		_, err := s.Repository(r.Context(), r.PathValue("name"))
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /clusters", func(w http.ResponseWriter, r *http.Request) {
		var call ClusterRequest
		err := question(r, &call)
		if err == nil {
			err = s.CreateCluster(r.Context(), call)
		}
		answer(w, struct{}{}, err)
	})
	s.computeAdmin(mux)
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, Info{Ready: s.ready.Load(), Environment: s.Environment()}, nil)
	})
	s.adminVault(mux)
	return mux
}

func question(r *http.Request, into any) error {
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxAdminBody)).Decode(into); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, value any, err error) {
	if err != nil {
		arm.Refuse(w, http.StatusBadRequest, "BadRequest", strings.TrimSpace(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client has gone away
}
