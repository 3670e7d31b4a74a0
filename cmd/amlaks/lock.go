package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
)

const (
	// defaultLockTimeout is long enough for the update of a few services, and short enough for a
	// pipeline to say soon that somebody is at work.
	defaultLockTimeout = 5 * time.Minute
	// defaultDrain is what the first Ctrl-C leaves to what runs: a rollout ends in it, a new
	// cluster does not and is joined by the next run.
	defaultDrain = 2 * time.Minute
)

// locked carries a plan out while no other run works on the stack. If one did since the plan
// was made, the world is looked at again: an exact plan then does what is still the same, and
// any other is made anew.
func (a *app) locked(ctx context.Context, s *session, plan *reconcile.Plan, exact bool) error {
	if !mayWrite(plan) {
		return a.carryOut(ctx, s, plan, exact)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waited, err := s.lock(ctx, a.holder("apply"), a.lockTimeout, func(message string) { fmt.Fprintf(a.err, "%s: %s\n", s.stack.Name, message) }, cancel)
	defer s.kube.Unlock()
	if err != nil {
		return err
	}
	if waited {
		fresh, err := s.plan(ctx, plan.Options)
		if err != nil {
			return err
		}
		switch same := slices.EqualFunc(plan.Changes, fresh.Changes, func(a, b reconcile.Change) bool { return a.Digest == b.Digest }); {
		case exact:
			plan, _ = plan.Bind(fresh)
		case !same && a.output == "text":
			fmt.Fprintln(a.out, "another run has ended since; the plan is now:")
			printPlan(a.out, a.colors, fresh)
			fallthrough
		default:
			plan = fresh
		}
		if err := plan.CheckDeletes(a.deletesAllowed(s.stack)); err != nil && !plan.Options.Destroy {
			return err
		}
	}
	return a.carryOut(ctx, s, plan, exact)
}

// mayWrite tells whether carrying the plan out may write. Joining what runs may: it is begun
// again if it has failed.
func mayWrite(plan *reconcile.Plan) bool { return plan.Pending()+plan.Count(reconcile.Wait) > 0 }

// lock keeps other runs away from the clusters that the last plan saw. waited tells that
// another one was at work after it was made.
func (s *session) lock(ctx context.Context, holder string, wait time.Duration, say func(string), lost func(error)) (waited bool, err error) {
	return s.kube.Lock(ctx, s.seen, s.seenAt, kube.LockOptions{Holder: holder, Wait: wait, Say: say, Lost: lost})
}

// holder says for people who is at work.
func (a *app) holder(verb string) string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "an unnamed machine"
	}
	return fmt.Sprintf("%s@%s, amlaks %s, process %d", name, host, verb, os.Getpid())
}

// drained is the context of what runs: the first Ctrl-C, which ends ctx, leaves it
// --drain-timeout, and the second ends it.
func (a *app) drained(ctx context.Context) (finish context.Context, stop func()) {
	finish, cancel := context.WithCancelCause(a.finish)
	var timer *time.Timer
	asked := make(chan struct{})
	detach := context.AfterFunc(ctx, func() {
		defer close(asked)
		fmt.Fprintf(a.err, "%v: nothing more is started; what runs has %s to end (Ctrl-C again ends it now)\n", context.Cause(ctx), a.drain)
		timer = time.AfterFunc(a.drain, func() { cancel(errInterrupted) })
	})
	return finish, func() {
		if !detach() {
			<-asked
			timer.Stop()
		}
		cancel(nil)
	}
}
