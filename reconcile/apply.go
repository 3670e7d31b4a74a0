package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/amlaks/amlaks/reconcile/retry"
)

// ApplyOptions steer how a plan is carried out.
type ApplyOptions struct {
	// Parallelism is how many changes run at a time, those apart that only wait; 0 means
	// DefaultParallelism.
	Parallelism int
	// Timeout bounds each change, its waiting included; 0 means DefaultTimeout.
	Timeout time.Duration
	// Drain, when closed, starts nothing more and lets finish what runs.
	Drain <-chan struct{}
	// Exact reads each resource again right before it is changed, and refuses what is no
	// longer the change that was planned.
	Exact bool
	// Emit gets every event, one at a time.
	Emit func(Event)
	// Now is the clock of the events; nil means time.Now.
	Now func() time.Time
}

const (
	// DefaultParallelism is terraform's: enough to hide round trips, few enough not to be throttled.
	DefaultParallelism = 10
	// DefaultTimeout leaves room for the slowest thing there is, a new AKS cluster (about
	// 20 minutes at worst by v1's documentation).
	DefaultTimeout = 30 * time.Minute
)

// Outcome is how one change of a plan ended.
type Outcome struct {
	Change Change
	Phase  Phase // Done, Failed, Skipped or Refused
	Err    error // of a change that is not Done
	// Now is, of a change refused as stale, what it would be by now; nil if nothing is left to do.
	Now *Change
}

// Result is how a plan ended.
type Result struct {
	Outcomes []Outcome // in the plan's order
	Outputs  Outputs   // everything that is known now; may hold secrets
}

// Count gives how many changes ended in the phase.
func (r *Result) Count(phase Phase) int {
	n := 0
	for _, outcome := range r.Outcomes {
		if outcome.Phase == phase {
			n++
		}
	}
	return n
}

// Apply carries the plan out: what depends on nothing first, independent branches side by
// side, deletions last. A change that fails skips what depends on it and nothing else.
func Apply(ctx context.Context, drivers []Driver, p *Plan, o ApplyOptions) *Result {
	w := newWalk(drivers, p, o)
	var all sync.WaitGroup
	for i := range p.Changes {
		all.Go(func() { w.run(ctx, i) })
	}
	all.Wait()
	return &Result{Outcomes: w.outcomes, Outputs: w.outputs}
}

// walk is one run over a plan's graph. Each change has a channel that closes when it has ended.
type walk struct {
	plan    *Plan
	options ApplyOptions
	drivers map[string]Driver
	index   map[Address]int
	waits   [][]int // for each change, those that must have ended before
	after   [][]int // and those of which it does not matter how
	kept    []int   // all that are no deletions and not optional: every deletion waits for them
	ended   []chan struct{}
	slots   chan struct{}

	mu       sync.Mutex // guards what follows, and makes events come one at a time
	outcomes []Outcome
	blocked  []Address // by change that has nothing to do: what failed before it
	outputs  Outputs
}

func newWalk(drivers []Driver, p *Plan, o ApplyOptions) *walk {
	if o.Parallelism <= 0 {
		o.Parallelism = DefaultParallelism
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Emit == nil {
		o.Emit = func(Event) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &walk{
		plan: p, options: o, drivers: map[string]Driver{}, index: map[Address]int{},
		waits: make([][]int, len(p.Changes)), after: make([][]int, len(p.Changes)), slots: make(chan struct{}, o.Parallelism),
		outcomes: make([]Outcome, len(p.Changes)), blocked: make([]Address, len(p.Changes)), outputs: Outputs{},
	}
	for _, driver := range drivers {
		w.drivers[driver.Name()] = driver
	}
	for address, outputs := range p.outputs {
		w.outputs[address] = maps.Clone(outputs)
	}
	for i, c := range p.Changes {
		w.index[c.Address] = i
		w.ended = append(w.ended, make(chan struct{}))
	}
	for i, c := range p.Changes {
		for _, dependency := range c.DependsOn {
			j, ok := w.index[dependency]
			switch {
			case !ok:
			case c.Action.deletes() && p.Changes[j].Action.deletes():
				w.waits[j] = append(w.waits[j], i) // the other way round: it goes first
			case p.Changes[j].Action.deletes(): // nothing that stays waits for a deletion
			default:
				w.waits[i] = append(w.waits[i], j)
			}
		}
		if c.Action.deletes() {
			continue
		}
		if c.resource == nil {
			w.kept = append(w.kept, i)
			continue
		}
		if !c.resource.Optional {
			w.kept = append(w.kept, i)
		}
		for _, before := range c.resource.After {
			if j, ok := w.index[before]; ok && !p.Changes[j].Action.deletes() {
				w.after[i] = append(w.after[i], j)
			}
		}
	}
	return w
}

// run waits for what change i depends on, carries it out, and records how it ended.
func (w *walk) run(ctx context.Context, i int) {
	defer close(w.ended[i])
	c := w.plan.Changes[i]
	for _, before := range w.before(i) {
		for _, j := range before {
			<-w.ended[j]
		}
	}
	for _, j := range w.after[i] {
		<-w.ended[j]
	}
	if because := w.failedBefore(i); because != "" {
		if c.Action == NoOp { // nothing is lost by it; what comes behind it may be
			w.block(i, because)
			w.end(i, Done, 0, nil)
			return
		}
		w.end(i, Skipped, 0, &Failure{Reason: ReasonDependencyFailed, Err: fmt.Errorf("because %s", because)})
		return
	}
	switch c.Action {
	case NoOp, Keep:
		w.end(i, Done, 0, nil)
		return
	case Refuse:
		w.end(i, Refused, 0, &Failure{Reason: c.Reason, Err: errors.New(c.Why)})
		return
	}
	if c.now != nil {
		w.stale(i, c.now)
		return
	}
	leave := func() {}
	select {
	case w.slots <- struct{}{}:
		leave = sync.OnceFunc(func() { <-w.slots })
	case <-ctx.Done():
	}
	defer leave()
	if w.stopping(ctx) {
		w.end(i, Skipped, 0, &Failure{Reason: ReasonInterrupted, Err: errors.New("because the run was interrupted")})
		return
	}
	started := w.options.Now()
	w.emit(Event{Address: c.Address, Action: c.Action, Phase: Started})
	outputs, err := w.step(ctx, &c, started, leave)
	if c.now != nil {
		w.stale(i, c.now)
		return
	}
	elapsed := w.options.Now().Sub(started)
	if err != nil {
		w.end(i, Failed, elapsed, err)
		return
	}
	w.mu.Lock()
	if len(outputs) > 0 {
		w.outputs = maps.Clone(w.outputs) // steps that run have the old ones
		w.outputs[c.Address] = outputs
	}
	w.mu.Unlock()
	w.end(i, Done, elapsed, nil)
}

// step carries c out. If its resource is no longer what c was planned upon, it leaves
// everything as it is and c.now says what would have to be done instead.
func (w *walk) step(ctx context.Context, c *Change, started time.Time, leave func()) (map[string]string, error) {
	driver := w.drivers[c.Driver]
	if driver == nil {
		return nil, fmt.Errorf("no driver %q", c.Driver)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.options.Timeout, &Failure{
		Reason: ReasonNotHealthy,
		Err:    fmt.Errorf("not done within %s", w.options.Timeout),
		Hint:   "it may still be going on: run apply again to join it, or raise --timeout",
	})
	defer cancel()
	var doing atomic.Pointer[string]
	progress := func(message string) {
		doing.Store(&message)
		w.emit(Event{Address: c.Address, Action: c.Action, Phase: Progress, Message: message, Elapsed: w.options.Now().Sub(started)})
	}
	say := func(message string) {
		if ctx.Err() == nil { // what outlives the step, as a lock does, has nobody to tell
			progress(message)
		}
	}
	outputs, err := w.carryOut(retry.WithSay(ctx, say), driver, c, progress, leave)
	if err == nil || ctx.Err() == nil {
		return outputs, err
	}
	switch cause := context.Cause(ctx); {
	case ReasonOf(cause) == ReasonInterrupted:
		interrupted := &Failure{Reason: ReasonInterrupted, Err: cause, Hint: "what was begun goes on by itself: run apply again to join it"}
		if last := doing.Load(); last != nil {
			interrupted.Err = fmt.Errorf("%w while: %s", cause, *last)
		}
		err = interrupted
	case ReasonOf(err) == "":
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return outputs, err
}

func (w *walk) carryOut(ctx context.Context, driver Driver, c *Change, progress func(string), leave func()) (map[string]string, error) {
	step := Step{Stack: w.plan.Stack, Change: *c, Live: c.live, Resource: c.resource, Progress: progress, Waiting: leave}
	w.mu.Lock()
	step.Outputs = w.outputs
	w.mu.Unlock()
	if c.resource != nil && !c.Action.deletes() {
		step.Desired = resolveBody(c.resource.Desired, step.Outputs)
		step.Inputs = resolveInputs(c.resource.Inputs, step.Outputs)
	}
	if w.options.Exact {
		proceed, outputs, err := w.reread(ctx, driver, c, step)
		if err != nil || !proceed {
			return outputs, err
		}
		step.Change, step.Live = *c, c.live
	}
	return driver.Apply(ctx, step)
}

// stopping tells whether nothing more may be started.
func (w *walk) stopping(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return true
	case <-w.options.Drain:
		return true
	default:
		return false
	}
}

// before is what must have ended before change i may begin.
func (w *walk) before(i int) [2][]int {
	if w.plan.Changes[i].Action.deletes() {
		return [2][]int{w.waits[i], w.kept}
	}
	return [2][]int{w.waits[i]}
}

// failedBefore names what made change i impossible, the first of the plan. A deletion is not
// made when anything else failed: what is being replaced by it might not be there yet.
func (w *walk) failedBefore(i int) Address {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := len(w.outcomes)
	for _, before := range w.before(i) {
		for _, j := range before {
			if j < first && (w.outcomes[j].Phase != Done || w.blocked[j] != "") {
				first = j
			}
		}
	}
	if first == len(w.outcomes) {
		return ""
	}
	if because := w.blocked[first]; because != "" {
		return because
	}
	return w.plan.Changes[first].Address
}

// block notes what stands in the way of everything that depends on change i.
func (w *walk) block(i int, because Address) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked[i] = because
}

// stale ends a change that is no longer what was planned.
func (w *walk) stale(i int, now *Change) {
	w.mu.Lock()
	w.outcomes[i].Now = now
	w.mu.Unlock()
	w.end(i, Refused, 0, &Failure{
		Reason: ReasonStale,
		Err:    errors.New("the world or the file has changed since this was planned"),
		Hint:   "plan again, and look at what has changed",
	})
}

func (w *walk) end(i int, phase Phase, elapsed time.Duration, err error) {
	c := w.plan.Changes[i]
	w.mu.Lock()
	w.outcomes[i] = Outcome{Change: c, Phase: phase, Err: err, Now: w.outcomes[i].Now}
	w.mu.Unlock()
	if !c.Action.Pending() && phase == Done && c.Action != Wait {
		return
	}
	event := Event{Address: c.Address, Action: c.Action, Phase: phase, Elapsed: elapsed}
	if err != nil {
		event.Message, event.Reason, event.Hint = err.Error(), ReasonOf(err), HintOf(err)
	}
	w.emit(event)
}

func (w *walk) emit(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.Time = w.options.Now()
	w.options.Emit(e)
}
