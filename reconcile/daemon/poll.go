package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/source"
)

const (
	// maxPollWait caps the wait for a git server that is down; Flux waits as long at most.
	maxPollWait = 5 * time.Minute
	// remindEvery is how often a state that stays bad is logged again.
	remindEvery = 10 * time.Minute
)

// poll is what the poller has to say. Exactly one of its fields is set, but for the first
// poll, which may find that the tree on disk is still the newest.
type poll struct {
	tree    *tree           // a new revision, fetched
	same    bool            // the ref has not moved
	invalid error           // the ref has moved to rev, which cannot be used
	rev     source.Revision // of invalid
	err     error           // git could not be asked
}

// poller asks git, fetches, and tells the loop.
type poller struct {
	config   Config
	files    *workDir
	status   *status
	metrics  *metrics
	have     string // the newest hash that was fetched, or found to be invalid
	failures int
	failed   string // the last error that was logged
	logged   time.Time
	since    time.Time
}

func newPoller(c Config, files *workDir, s *status, m *metrics, good *tree) *poller {
	p := &poller{config: c, files: files, status: s, metrics: m}
	if good != nil {
		p.have = good.Revision.Hash
	}
	return p
}

// run polls until ctx is cancelled.
func (p *poller) run(ctx context.Context, polled chan<- poll) {
	for {
		result := p.poll(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := p.account(result)
		p.status.nextPoll(time.Now().Add(wait))
		select {
		case polled <- result:
		case <-ctx.Done():
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// poll asks once, and fetches what is new.
func (p *poller) poll(ctx context.Context) poll {
	rev, err := p.config.Source.Head(ctx)
	if err != nil {
		return poll{err: err}
	}
	if rev.Hash == p.have {
		return poll{same: true}
	}
	dir, err := p.files.place(rev)
	if err != nil {
		return poll{err: err}
	}
	err = p.config.Source.Fetch(ctx, rev, dir)
	if invalid := (*source.InvalidTreeError)(nil); errors.As(err, &invalid) {
		p.have = rev.Hash
		return poll{invalid: err, rev: rev}
	}
	if err != nil {
		return poll{err: err}
	}
	p.have = rev.Hash
	return poll{tree: &tree{Revision: rev, dir: dir}}
}

// account counts and logs a poll, and gives the wait for the next.
func (p *poller) account(result poll) time.Duration {
	now, log := time.Now(), p.config.Log
	moved := (*source.MovedError)(nil)
	switch {
	case errors.As(result.err, &moved):
		// The server is well; somebody pushed between the two questions.
		p.metrics.polls.WithLabelValues("moved").Inc()
		return min(time.Second, p.config.Interval)
	case result.err == nil:
		p.metrics.polls.WithLabelValues(pollResult(result)).Inc()
		if p.failures > 0 {
			log.Info("git answers again", "source", p.config.Source.String(), "downFor", now.Sub(p.since), "polls", p.failures)
		}
		p.failures, p.failed = 0, ""
		return p.config.Interval
	}
	p.metrics.polls.WithLabelValues("error").Inc()
	p.failures++
	if p.failures == 1 {
		p.since = now
	}
	text := result.err.Error()
	if text != p.failed || now.Sub(p.logged) >= remindEvery {
		log.Error("git cannot be polled; drift is still being put back", "source", p.config.Source.String(),
			"error", text, "reason", reconcile.ReasonOf(result.err), "hint", reconcile.HintOf(result.err),
			"since", p.since, "polls", p.failures)
		p.failed, p.logged = text, now
	}
	return backoff(p.failures, p.config.Interval, max(maxPollWait, p.config.Interval), p.config.jitter())
}

func pollResult(result poll) string {
	switch {
	case result.tree != nil:
		return "changed"
	case result.invalid != nil:
		return "invalid"
	}
	return "unchanged"
}
