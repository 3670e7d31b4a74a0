package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/bearer"
	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/front"
	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/watch"
)

// Limits on clients.
const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 4 * time.Minute // Azure's load balancer drops idle flows after 4 minutes
	maxHeaderBytes    = 32 << 10
)

type options struct {
	podIP, podName, namespace, service, kubeconfig string
	port, adminPort, tlsPort, tlsSecret            string
	drainDelay, drainTimeout                       time.Duration
}

func parse(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("amlaks-fe", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.podIP, "pod-ip", getenv("POD_IP"), "address to listen on, and to be known by to the other front ends")
	flags.StringVar(&o.podName, "pod-name", getenv("POD_NAME"), "name for the log")
	flags.StringVar(&o.namespace, "namespace", getenv("POD_NAMESPACE"), "namespace of routes, keys and endpoints")
	flags.StringVar(&o.service, "service", getenv("FE_SERVICE"), "Service of the front ends")
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file; in a cluster, the pod's own account")
	flags.StringVar(&o.port, "port", "8080", "scoring port, the same on every front end; with TLS it is the front ends' own, among themselves")
	flags.StringVar(&o.tlsSecret, "tls-secret", getenv("FE_TLS_SECRET"), "Secret with the certificate (kubernetes.io/tls); empty: no TLS")
	flags.StringVar(&o.tlsPort, "tls-port", "8443", "scoring port over TLS, with -tls-secret")
	flags.StringVar(&o.adminPort, "admin-port", "8081", "port of /healthz, /readyz and /metrics")
	flags.DurationVar(&o.drainDelay, "drain-delay", 5*time.Second, "how long to go on accepting after SIGTERM, until endpoints have noticed")
	flags.DurationVar(&o.drainTimeout, "drain-timeout", 75*time.Second, "how long requests in flight may take after that")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if net.ParseIP(o.podIP) == nil || o.namespace == "" {
		return o, errors.New("POD_IP and POD_NAMESPACE (or -pod-ip, -namespace) are needed")
	}
	return o, nil
}

// run serves until ctx ends, then drains.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	o, err := parse(args, getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, nil)).With("pod", o.podName)
	klog.SetSlogLogger(log)
	config, err := kubeConfig(o.kubeconfig)
	if err != nil {
		return fmt.Errorf("configuration of the API server: %w", err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		return fmt.Errorf("transport to the API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return fmt.Errorf("address of the API server: %w", err)
	}
	port, err := net.LookupPort("tcp", o.port)
	if err != nil {
		return err
	}
	adminPort, err := net.LookupPort("tcp", o.adminPort)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	server := front.New(front.Config{
		Self: o.podIP, Port: port, AdminPort: adminPort, Tokens: bearer.NewTokens(base.Scheme+"://"+base.Host, transport), Log: log, Metrics: registry, Version: version(),
	})

	// The watch outlives ctx: draining still needs endpoints.
	watching, stopWatching := context.WithCancel(context.WithoutCancel(ctx))
	watcher := &watch.Watcher{Namespace: o.namespace, PeerService: o.service, TLSSecret: o.tlsSecret, Sink: server, Log: log}
	defer watcher.Wait()
	defer stopWatching()
	synced, err := watcher.Start(watching, config)
	if err != nil {
		return err
	}
	var draining atomic.Bool
	ready := func() bool {
		return synced() && !draining.Load() && (o.tlsSecret == "" || server.HasCertificate())
	}

	admin := newServer(adminHandler(ready, registry, server.Handover), log)
	scoring := newServer(gate(synced, server), log)
	scoring.TLSConfig = server.TLSConfig()
	failed := make(chan error, 3)
	listen := func(port string, serve func(net.Listener) error) error {
		listener, err := net.Listen("tcp", net.JoinHostPort(o.podIP, port))
		if err == nil {
			go func() { failed <- serve(listener) }()
		}
		return err
	}
	if err := errors.Join(listen(o.adminPort, admin.Serve), listen(o.port, scoring.Serve)); err != nil {
		return err
	}
	if o.tlsSecret != "" {
		if err := listen(o.tlsPort, func(l net.Listener) error { return scoring.ServeTLS(l, "", "") }); err != nil {
			return err
		}
	}
	log.Info("listening", "ip", o.podIP, "port", o.port, "adminPort", o.adminPort, "tlsSecret", o.tlsSecret)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	draining.Store(true)
	log.Info("draining", "delay", o.drainDelay.String(), "timeout", o.drainTimeout.String())
	pause := time.NewTimer(o.drainDelay)
	defer pause.Stop()
	select {
	case err := <-failed:
		return err
	case <-pause.C:
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.drainTimeout)
	defer cancel()
	err = scoring.Shutdown(bound)
	if err != nil {
		err = fmt.Errorf("requests were still in flight after %s: %w", o.drainTimeout, err)
	}
	return errors.Join(err, admin.Close())
}

func newServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: readHeaderTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// gate keeps requests out until the namespace is known: without endpoints a
// front end would take itself for the only one.
func gate(synced func() bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !synced() {
			http.Error(w, "starting", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func adminHandler(ready func() bool, registry *prometheus.Registry, handover http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET "+front.HandoverPath, handover)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func kubeConfig(path string) (*rest.Config, error) {
	if path == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", path)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
