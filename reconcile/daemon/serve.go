package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// pongWithin is how soon the loop must answer; it never does anything slow itself.
	pongWithin = 3 * time.Second
	// maxPollLate is how late a poll may be: a whole fetch (source bounds it to ten minutes)
	// and its advertisement may come in between.
	maxPollLate = 15 * time.Minute
	// drainServer is how long requests may take to end when the daemon stops.
	drainServer = time.Second
)

// serve answers /healthz, /readyz and /metrics until the returned stop is called.
func (l *loop) serve() (stop func(), err error) {
	if l.config.Listen == "" {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", l.config.Listen)
	if err != nil {
		return nil, fmt.Errorf("daemon: health and metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", l.healthz)
	mux.HandleFunc("GET /readyz", l.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(l.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); err != http.ErrServerClosed {
			l.config.Log.Error("health and metrics are no longer served", "error", err)
		}
	}()
	l.config.Log.Info("health and metrics", "address", listener.Addr().String())
	if l.config.listening != nil {
		l.config.listening(listener.Addr().String())
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), drainServer)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close() // whoever still reads is cut off
		}
		<-ended
	}, nil
}

// healthz is 200 while the loop answers and polls are not overdue. It says nothing about the
// world: restarting the daemon would not help that.
func (l *loop) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), pongWithin)
	defer cancel()
	pong := make(chan struct{})
	select {
	case l.pings <- pong:
	case <-ctx.Done():
		http.Error(w, "the loop does not answer", http.StatusServiceUnavailable)
		return
	}
	if late := l.status.pollLate(); late > maxPollLate {
		http.Error(w, fmt.Sprintf("the last poll is %s late", late.Round(time.Second)), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok") // to a client that has gone
}

// readyz is 200 when the newest revision is known to have been reconciled healthily.
func (l *loop) readyz(w http.ResponseWriter, _ *http.Request) {
	report := l.status.report()
	w.Header().Set("Content-Type", "application/json")
	if !report.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(report) // to a client that has gone
}
