package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

const (
	// firstRetry and maxRetry bound the waits between tries of a revision that fails.
	firstRetry = 10 * time.Second
	maxRetry   = 5 * time.Minute
)

// loop is the one goroutine that decides what is reconciled. What it knows, nobody else writes.
type loop struct {
	config  Config
	files   *workDir
	status  *status
	metrics *metrics
	pings   chan chan struct{}

	good     *tree // the last one known to load; on disk for the next start
	unproven *tree // superseded before it was known to load; may be partly applied
	target   *tree // what the world should be equal to; nil until the first poll
	running  *run
	pending  *tree // starts when running has ended
	trees    []*tree

	next     <-chan time.Time // the next try of target; nil while one is running
	stopNext func()
	failures int // of target, in a row
	failed   string
	logged   time.Time
}

// run is one call of Reconcile.
type run struct {
	tree    *tree
	cancel  context.CancelCauseFunc
	started time.Time
	ended   chan struct{} // closed after what follows is set
	outcome Outcome
	err     error
	cause   error // why its context was cancelled, if it was
}

func newLoop(c Config, files *workDir, good *tree) *loop {
	l := &loop{config: c, files: files, good: good, pings: make(chan chan struct{}), stopNext: func() {}}
	if good != nil {
		l.trees = append(l.trees, good)
	}
	l.metrics = newMetrics()
	l.status = newStatus()
	return l
}

// run decides until ctx is cancelled, and then waits for what is running.
func (l *loop) run(ctx context.Context, polled <-chan poll) {
	defer func() { l.stopNext() }()
	for {
		var ended chan struct{}
		if l.running != nil {
			ended = l.running.ended
		}
		select {
		case p := <-polled:
			l.polled(ctx, p)
		case <-ended:
			l.ended(ctx)
		case <-l.next:
			l.start(ctx, l.target)
		case pong := <-l.pings:
			close(pong)
		case <-ctx.Done():
			if l.running != nil {
				l.config.Log.Info("stopping; waiting for the running reconcile", "revision", l.running.tree.Revision.Hash)
				<-l.running.ended
				l.metrics.ended(l.running, "interrupted", time.Now())
			}
			return
		}
	}
}

// polled takes what the poller says.
func (l *loop) polled(ctx context.Context, p poll) {
	switch {
	case p.err != nil:
		l.status.sourceFailed(p.err)
	case p.invalid != nil:
		l.status.sourceAnswered()
		l.status.newest(p.rev)
		l.metrics.newest(p.rev)
		l.status.failedAt(p.rev, p.invalid)
		l.config.Log.Error("the newest revision cannot be used; the world stays as it is", "revision", p.rev.Hash, "error", p.invalid)
		l.metrics.reconciles.WithLabelValues("invalid").Inc()
	case p.tree != nil:
		l.status.sourceAnswered()
		l.status.newest(p.tree.Revision)
		l.metrics.newest(p.tree.Revision)
		l.config.Log.Info("new revision", "revision", p.tree.Revision.Hash, "ref", p.tree.Revision.Ref)
		l.trees = append(l.trees, p.tree)
		l.aim(ctx, p.tree)
		return
	default:
		l.status.sourceAnswered()
	}
	if l.target == nil && l.good != nil {
		// The first poll after a restart brought nothing newer that can be used.
		if p.same {
			l.status.newest(l.good.Revision)
			l.metrics.newest(l.good.Revision)
		}
		l.aim(ctx, l.good)
	}
}

// aim makes t what the world should be equal to, now.
func (l *loop) aim(ctx context.Context, t *tree) {
	l.target = t
	l.failures, l.failed = 0, ""
	if l.running == nil {
		l.start(ctx, t)
		return
	}
	l.pending = t
	l.running.cancel(ErrSuperseded)
}

func (l *loop) start(ctx context.Context, t *tree) {
	l.stopNext()
	l.next, l.stopNext = nil, func() {}
	runCtx, cancel := context.WithCancelCause(ctx)
	r := &run{tree: t, cancel: cancel, started: time.Now(), ended: make(chan struct{})}
	l.running, l.pending = r, nil
	go func() {
		defer close(r.ended)
		defer cancel(nil)
		r.outcome, r.err = l.config.Reconcile(runCtx, t.dir, t.Revision)
		r.cause = context.Cause(runCtx)
	}()
}

// ended takes the result of the reconcile that was running, and decides what comes next.
func (l *loop) ended(ctx context.Context) {
	r := l.running
	l.running = nil
	now, log := time.Now(), l.config.Log
	invalid := isInvalid(r.err)
	if !invalid && ctx.Err() == nil && !errors.Is(r.cause, ErrSuperseded) {
		l.prove(r.tree)
	}
	switch {
	case invalid:
		l.metrics.ended(r, "invalid", now)
		log.Error("the spec does not load; the world stays as it is", "revision", r.tree.Revision.Hash, "error", r.err)
		if l.target == r.tree {
			l.status.failedAt(r.tree.Revision, r.err)
		}
		if l.unproven == r.tree {
			l.unproven = nil
		}
		l.fallBack(ctx, r.tree)
	case errors.Is(r.cause, ErrSuperseded):
		l.metrics.ended(r, "superseded", now)
		log.Info("superseded", "revision", r.tree.Revision.Hash, "after", now.Sub(r.started))
		if r.tree != l.good {
			l.unproven = r.tree
		}
	case ctx.Err() != nil:
		l.metrics.ended(r, "interrupted", now)
		return
	case r.err != nil:
		l.metrics.ended(r, "failed", now)
		l.retry(r, r.err)
	case !r.outcome.Healthy:
		l.metrics.ended(r, "unhealthy", now)
		l.retry(r, &reconcile.Failure{Reason: reconcile.ReasonNotHealthy, Err: errors.New("applied, but not healthy")})
	default:
		l.metrics.ended(r, "ok", now)
		l.metrics.lastSuccess.Set(float64(now.UnixNano()) / 1e9)
		l.succeeded(r, now)
	}
	if l.pending != nil {
		l.start(ctx, l.pending)
	}
	l.sweep()
}

// prove notes that t loads.
func (l *loop) prove(t *tree) {
	l.unproven = nil
	if l.good == t {
		return
	}
	l.good = t
	if err := l.files.save(t); err != nil {
		l.config.Log.Error("the last good revision could not be written; a restart will need git", "error", err)
	}
}

// fallBack aims at what loaded before bad: first what may have been applied in part.
func (l *loop) fallBack(ctx context.Context, bad *tree) {
	if l.target != bad {
		return // something newer is there already
	}
	switch {
	case l.unproven != nil:
		l.aim(ctx, l.unproven)
	case l.good != nil && l.good != bad:
		l.aim(ctx, l.good)
	default:
		// Nothing ever loaded, or what did no longer does: only a new commit, or a newer
		// amlaks, can help.
		l.target, l.good = nil, nil
	}
}

func (l *loop) succeeded(r *run, now time.Time) {
	recovered := l.failed != ""
	l.failures, l.failed = 0, ""
	l.status.applied(r.tree.Revision)
	switch {
	case r.outcome.Changed || recovered:
		l.config.Log.Info("reconciled", "revision", r.tree.Revision.Hash, "took", now.Sub(r.started), "changes", r.outcome.Changes)
	default:
		l.config.Log.Debug("nothing to change", "revision", r.tree.Revision.Hash, "took", now.Sub(r.started))
	}
	l.schedule(l.config.DriftInterval)
}

// retry waits before the same revision is tried again.
func (l *loop) retry(r *run, err error) {
	l.failures++
	wait := backoff(l.failures, min(firstRetry, l.config.DriftInterval), max(maxRetry, l.config.DriftInterval), l.config.jitter())
	now := time.Now()
	l.status.failedAt(r.tree.Revision, err)
	if text := err.Error(); text != l.failed || now.Sub(l.logged) >= remindEvery {
		l.config.Log.Error("reconcile failed", "revision", r.tree.Revision.Hash, "error", err, "reason", reconcile.ReasonOf(err),
			"hint", reconcile.HintOf(err), "tries", l.failures, "nextTry", wait)
		l.failed, l.logged = text, now
	}
	if l.target == r.tree {
		l.schedule(wait)
	}
}

func (l *loop) schedule(d time.Duration) {
	l.stopNext()
	timer := time.NewTimer(d)
	l.next, l.stopNext = timer.C, func() { timer.Stop() }
}

// sweep removes the trees that nothing can come back to.
func (l *loop) sweep() {
	var kept []*tree
	for _, t := range l.trees {
		running := l.running != nil && l.running.tree == t
		if running || t == l.good || t == l.unproven || t == l.target || t == l.pending {
			kept = append(kept, t)
			continue
		}
		if err := l.files.remove(t); err != nil {
			l.config.Log.Warn("old tree could not be removed", "error", fmt.Errorf("%s: %w", t.Revision.Hash, err))
		}
	}
	l.trees = kept
}

func isInvalid(err error) bool {
	value, pointer := InvalidSpec{}, (*InvalidSpec)(nil)
	return errors.As(err, &value) || errors.As(err, &pointer)
}
