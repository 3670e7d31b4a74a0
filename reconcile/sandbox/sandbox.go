// Package sandbox is an Azure of one's own on loopback: Resource Manager, a registry, a blob
// store, a Key Vault and a git server, with a real Kubernetes behind each AKS cluster and a gate in front
// of those, so that what clients ask of them is seen too. The demo and the
// tests run on it, through the same clients and protocols as on Azure; cmd/amlaks-sandbox
// runs it as a process of its own.
//
// All of its state is in one folder. A sandbox that was killed at any moment goes on where it
// was when it is started on that folder again, at the same addresses.
//
// It is no Azure: it knows the subscriptions it is told of, one token, it checks no roles,
// and it must never listen on anything but loopback.
package sandbox

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/arm"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/blob"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/git"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/registry"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/traffic"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/vault"
)

// What is there from the start.
const (
	SubscriptionID = "00000000-0000-0000-0000-000000000000"
	ResourceGroup  = "ml-prod"
	Workspace      = "ml-prod"
)

const (
	storageAccount = "mlprodstorage"
	registryName   = "mlprod"
)

// Options of a sandbox.
type Options struct {
	// Dir holds all state. It must be the sandbox's alone.
	Dir string
	// Kubeconfig, when given, leads to what stands behind every AKS cluster, now and at later
	// starts on the same Dir: no control plane is started.
	Kubeconfig []byte
	// ControlplaneSource is the folder of the controlplane module; empty: found from the working directory.
	ControlplaneSource string
	// Progress shows the build of the control plane. nil: nobody looks.
	Progress io.Writer
	// Logf takes a line about what goes on. nil: nobody looks.
	Logf func(format string, args ...any)
	// OperationTime is the least that a long-running operation takes; 0: 150 ms.
	OperationTime time.Duration
	// PageSize is that of ARM's lists; 0: 50.
	PageSize int
	// HollowNodes have no machine behind them: every pod is Ready at once, and nothing runs.
	HollowNodes bool
	// Hook, if not nil, is called for every HTTP request of every service, from the goroutine
	// that serves it: Before it has any effect, and After it took effect and before its answer
	// is sent. False resets the connection there and then: Before, nothing has happened; After,
	// the answer is lost. Streams (watches, followed logs) have no After.
	Hook func(Request, Moment) bool
	// Subscriptions are further ones that the identity can see. They hold clusters alone.
	Subscriptions []string
	// NoWorkspace leaves the resource group empty at the first start: there is no workspace,
	// registry or storage account until somebody makes them.
	NoWorkspace bool
}

// Moment is when Options.Hook is called.
type Moment = traffic.Moment

// The moments of a request.
const (
	Before = traffic.Before
	After  = traffic.After
)

// Request is one that a service of the sandbox has seen.
type Request = traffic.Entry

// Fault makes coming requests fail.
type Fault = traffic.Fault

// Duration is that of a Fault.
type Duration = traffic.Duration

// Sandbox is a running one. Its methods may be called from any goroutine.
type Sandbox struct {
	options  Options
	settings settings
	traffic  traffic.Log
	arm      *arm.Server
	blobs    *blob.Store
	vault    *vault.Vault
	git      *git.Server
	clusters *clusters
	seed     arm.Seed

	servers []*http.Server
	serving sync.WaitGroup
	close   sync.Once
	unlock  func()
	ready   atomic.Bool
	closing atomic.Bool
	ssh     net.Listener
	socket  string
}

// Start starts a sandbox and returns when all of it is ready, the Kubernetes of the clusters
// that were there before included. ctx bounds the start alone; Close ends the sandbox.
func Start(ctx context.Context, options Options) (_ *Sandbox, err error) {
	if options.Logf == nil {
		options.Logf = func(string, ...any) {}
	}
	if options.Progress == nil {
		options.Progress = io.Discard
	}
	if options.Dir, err = filepath.Abs(options.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, err
	}
	s := &Sandbox{options: options}
	s.traffic.Hook = options.Hook
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.unlock, err = lock(s.path("lock")); err != nil {
		return nil, err
	}
	listeners, err := s.settle()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
		}
	}()
	if err := s.keepKubeconfig(); err != nil {
		return nil, err
	}
	if s.clusters, err = newClusters(ctx, s); err != nil {
		return nil, err
	}
	if err := s.serve(listeners); err != nil {
		return nil, err
	}
	if err := s.arm.Restart(ctx); err != nil {
		return nil, err
	}
	if err := s.writeEnv(); err != nil {
		return nil, err
	}
	s.ready.Store(true)
	return s, nil
}

// serve starts the servers.
func (s *Sandbox) serve(listeners map[string]net.Listener) error {
	var err error
	s.arm, err = arm.New(arm.Config{
		Endpoint: s.ARMEndpoint(), Token: s.settings.Token, SubscriptionID: SubscriptionID, Subscriptions: s.options.Subscriptions, File: s.path("arm.json"),
		LoginServer: s.Registry(), BlobHost: s.settings.address(portBlob),
		Kubernetes: s.clusters, Logf: s.options.Logf, PageSize: s.options.PageSize, OperationTime: s.options.OperationTime,
	})
	if err != nil {
		return err
	}
	s.seed = arm.Seed{ResourceGroup: ResourceGroup, Workspace: Workspace, Registry: registryName, StorageAccount: storageAccount}
	if !s.settings.NoWorkspace {
		s.arm.Plant(s.seed)
	}
	images, err := registry.New(s.path("registry"))
	if err != nil {
		return err
	}
	if s.blobs, err = blob.New(s.path("blobs"), s.settings.Token); err != nil {
		return err
	}
	if s.vault, err = vault.New(s.path("vault.json"), s.settings.Token); err != nil {
		return err
	}
	if s.git, err = git.New(s.path("git"), s.path("ssh"), &s.traffic, s.options.Logf); err != nil {
		return err
	}
	if err := s.git.Announce(s.settings.address(portGitSSH)); err != nil {
		return err
	}
	s.start(listeners[portARM], s.traffic.Wrap(traffic.ARM, s.arm, arm.Refuse))
	s.start(listeners[portRegistry], s.traffic.Wrap(traffic.Registry, images, registry.Refuse))
	s.start(listeners[portBlob], s.traffic.Wrap(traffic.Blob, s.blobs, blob.Refuse))
	s.start(listeners[portVault], s.traffic.Wrap(traffic.Vault, s.vault, vault.Refuse))
	s.start(listeners[portGitHTTP], s.traffic.Wrap(traffic.Git, s.git, git.Refuse))
	s.start(s.clusters.gate.listen(listeners[portKube]), s.traffic.Wrap(traffic.Kube, s.clusters.gate.handler(s.clusters.behind), refuseKube))
	s.ssh = listeners[portGitSSH]
	s.serving.Go(func() {
		if err := s.git.ServeSSH(s.ssh); err != nil {
			s.options.Logf("git over ssh: %v", err)
		}
	})
	admin, err := s.listenAdmin()
	if err != nil {
		return err
	}
	s.start(admin, s.admin())
	return nil
}

func (s *Sandbox) start(listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(remarks{s}, "", 0),
	}
	s.servers = append(s.servers, server)
	s.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.options.Logf("serve %s: %v", listener.Addr(), err)
		}
	})
}

// remarks are what net/http has to say: of clients that went away, for the most part.
type remarks struct{ s *Sandbox }

func (r remarks) Write(p []byte) (int, error) {
	if !r.s.closing.Load() {
		r.s.options.Logf("%s", strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// Close ends the sandbox and everything it started. Its folder stays.
func (s *Sandbox) Close() {
	s.close.Do(func() {
		s.closing.Store(true)
		for _, server := range s.servers {
			server.Close()
		}
		if s.git != nil {
			s.git.Close()
		}
		if s.ssh != nil {
			s.ssh.Close() // the server may not have come to know it yet
		}
		s.serving.Wait()
		if s.arm != nil {
			s.arm.Close()
		}
		if s.clusters != nil {
			s.clusters.stop()
		}
		s.closeAdmin()
		if s.unlock != nil {
			s.unlock()
		}
	})
}

func (s *Sandbox) path(name string) string { return filepath.Join(s.options.Dir, name) }

// ARMEndpoint is the URL of Resource Manager.
func (s *Sandbox) ARMEndpoint() string { return "http://" + s.settings.address(portARM) }

// Token is what Resource Manager, the blob store and the Key Vault want as bearer token.
func (s *Sandbox) Token() string { return s.settings.Token }

// Registry is host:port of the registry; it speaks plain HTTP and asks for no credentials.
func (s *Sandbox) Registry() string { return s.settings.address(portRegistry) }

// GitHTTP is the URL under which repository NAME is /NAME.git.
func (s *Sandbox) GitHTTP() string { return "http://" + s.settings.address(portGitHTTP) }

// GitSSH is the URL under which repository NAME is /NAME.git, for the key in SSHKey.
func (s *Sandbox) GitSSH() string { return "ssh://git@" + s.settings.address(portGitSSH) }

// SSHKey is the file of the private key that the git server lets in.
func (s *Sandbox) SSHKey() string { return s.git.ClientKey }

// KnownHosts is the file that names the git server's host key.
func (s *Sandbox) KnownHosts() string { return s.git.KnownHosts }

// Repository makes an empty bare git repository, unless there is one, and gives its folder.
func (s *Sandbox) Repository(ctx context.Context, name string) (string, error) {
	return s.git.Create(ctx, name)
}

// Requests gives what a service (arm, registry, blob, git, kube, vault; empty or all: any) has seen, oldest first.
func (s *Sandbox) Requests(service string) []Request { return s.traffic.Entries(service) }

// ClearRequests forgets the requests seen.
func (s *Sandbox) ClearRequests() { s.traffic.Clear() }

// Fault makes coming requests fail. It gives the fault as it was understood.
func (s *Sandbox) Fault(fault Fault) (Fault, error) { return s.traffic.AddFault(fault) }

// Faults gives those that still wait for a request.
func (s *Sandbox) Faults() []Fault { return s.traffic.Faults() }

// ClearFaults takes all faults back; operations that were never to end go on.
func (s *Sandbox) ClearFaults() {
	s.traffic.ClearFaults()
	s.arm.Release()
}

// Overlay writes merge over an ARM resource as another client with a newer API version would
// have: keys that the SDK does not know are kept and shown.
func (s *Sandbox) Overlay(id string, merge map[string]any) error { return s.arm.Overlay(id, merge) }

// Stale makes so many reads of an ARM resource, after its next write has taken effect, show it
// as it was before.
func (s *Sandbox) Stale(id string, reads int) { s.arm.Stale(id, reads) }

// LateRoles makes so many lists of role assignments not show the newest one yet.
func (s *Sandbox) LateRoles(lists int) { s.arm.Late(lists) }
