// Package daemon keeps the world equal to the newest commit: it polls a git source, reconciles
// each new revision, and reconciles the same one again from time to time to put drift back.
// It knows no driver; what reconciling means is given by its caller.
//
// Promises:
//   - a poll is one ref advertisement; a commit is fetched only when the ref has moved;
//   - polling goes on while something is being applied, and a new revision cancels the running
//     one (cause ErrSuperseded), waits for its end and takes its place: a bad commit cannot hold
//     up its own fix;
//   - a commit whose spec does not load changes nothing; the last one that did load is kept
//     equal to the world instead;
//   - the last good tree is on disk, so that a restart while git is down still puts drift back;
//   - at most one reconcile runs at any time;
//   - failures are retried ever more slowly, and logged when they change, not each time.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/amlaks/amlaks/reconcile/source"
)

// DefaultListen is loopback: a pod's probes need it set to the pod's address. The port is the
// one that OpenTelemetry's Prometheus exporter uses.
const DefaultListen = "127.0.0.1:9464"

// DefaultInterval is how often git is asked when Config does not say.
const DefaultInterval = time.Minute

// ErrSuperseded is why a running reconcile is cancelled when a newer revision is there.
var ErrSuperseded = errors.New("superseded by a newer revision")

// InvalidSpec marks the error of a revision whose spec does not load: trying it again is no use.
// Its text should begin with file:line:column.
type InvalidSpec struct{ Err error }

func (e InvalidSpec) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e InvalidSpec) Unwrap() error { return e.Err }

// Outcome is what a reconcile did.
type Outcome struct {
	Changed bool           // anything was written
	Healthy bool           // everything that was asked for is ready
	Changes map[string]int // how many changes were carried out, by action ("create", "update", ...)
}

// Source is what the daemon needs of a *source.Source.
type Source interface {
	fmt.Stringer // the address, without credentials
	Head(ctx context.Context) (source.Revision, error)
	Fetch(ctx context.Context, rev source.Revision, dir string) error
}

// Config is what Run needs.
type Config struct {
	Source Source
	// Reconcile makes the world equal to the tree in dir. It returns an InvalidSpec if that
	// does not load, and within reasonable time when ctx is cancelled. It is never called
	// twice at a time.
	Reconcile func(ctx context.Context, dir string, rev source.Revision) (Outcome, error)
	// Interval is the time between two polls; DefaultInterval when 0.
	Interval time.Duration
	// DriftInterval is the time between two reconciles of an unchanged revision; Interval when 0.
	DriftInterval time.Duration
	// Listen is the host:port of /healthz, /readyz and /metrics; empty for none.
	Listen string
	Log    *slog.Logger // nil discards
	// WorkDir keeps the last good tree between runs. It is made if need be, and belongs to one
	// daemon alone.
	WorkDir string

	jitter    func() float64 // in [0, 1); nil is random
	listening func(address string)
}

// Run polls and reconciles until ctx is cancelled, then waits for the running reconcile and
// returns nil. An error means that it could not start.
func Run(ctx context.Context, c Config) error {
	switch {
	case c.Source == nil || c.Reconcile == nil:
		return errors.New("daemon: needs a source and a reconcile")
	case c.WorkDir == "":
		return errors.New("daemon: needs a work folder")
	case c.Interval < 0 || c.DriftInterval < 0:
		return errors.New("daemon: intervals must not be negative")
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.DriftInterval == 0 {
		c.DriftInterval = c.Interval
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.jitter == nil {
		c.jitter = rand.Float64
	}
	files, good, err := openWorkDir(c.WorkDir, c.Source.String())
	if err != nil {
		return fmt.Errorf("daemon: work folder: %w", err)
	}
	defer files.close()
	l := newLoop(c, files, good)
	stop, err := l.serve()
	if err != nil {
		return err
	}
	defer stop()
	polled := make(chan poll)
	ctx, cancel := context.WithCancel(ctx)
	polling := make(chan struct{})
	go func() {
		defer close(polling)
		newPoller(c, files, l.status, l.metrics, good).run(ctx, polled)
	}()
	defer func() {
		cancel()
		<-polling
	}()
	l.run(ctx, polled)
	return nil
}
