package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"

	"github.com/amlaks/amlaks/reconcile"
)

// leaseName is that of the Lease, in the stack's namespace, by which one run keeps others out.
const leaseName = "amlaks-apply"

// How a run holds its Lease. One whose process was killed elsewhere is taken over leaseFor
// after its last sign of life; one of this machine at once (see holder).
const (
	leaseFor    = 30 * time.Second
	leaseRenew  = 20 * time.Second
	leaseRetry  = 4 * time.Second
	lockRemind  = 30 * time.Second
	releaseFor  = 5 * time.Second
	clockSkew   = 10 * time.Second // what two machines' clocks may be apart
	leaseMarker = " #"             // behind it, what people need not read
)

// LockOptions say who locks, and how long to wait for another run.
type LockOptions struct {
	Holder string        // a few words for people: alice@build-7, apply
	Wait   time.Duration // until the other one lets go
	Say    func(message string)
	// Lost is called when another run took the lock over: nothing more should be started.
	Lost func(error)
}

// Lock keeps other runs over the stack away from all its clusters until Unlock. Those that
// have no namespace of the stack yet are locked as soon as they get one. waited tells that
// another run was at work after since: what was observed before it may be wrong by now.
func (d *Driver) Lock(ctx context.Context, known reconcile.Outputs, since time.Time, o LockOptions) (waited bool, err error) {
	d.mu.Lock()
	d.lock = &o
	d.mu.Unlock()
	output := d.wiring.Kubeconfig("").Output
	for _, address := range slices.Sorted(maps.Keys(known)) { // in one order, so that two runs never wait for each other
		kubeconfig := known[address][output]
		if kubeconfig == "" {
			continue
		}
		c, err := d.client(kubeconfig)
		if err != nil {
			return waited, err
		}
		_, err = c.objects(kindNamespace, "").Get(ctx, Namespace(d.stack.Name), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return waited, explain("read namespace "+Namespace(d.stack.Name), err)
		}
		others, err := d.hold(ctx, c, since)
		waited = waited || others
		if err != nil {
			return waited, fmt.Errorf("%s: %w", address, err)
		}
	}
	return waited, nil
}

// Unlock lets the next run in.
func (d *Driver) Unlock() {
	d.mu.Lock()
	leases := d.leases
	d.leases, d.lock = map[*client]*lease{}, nil
	d.mu.Unlock()
	for _, l := range leases {
		l.release()
	}
}

// lease is what a run holds in one cluster.
type lease struct {
	once    sync.Once
	waited  bool
	err     error
	release func()
}

// hold takes the cluster's Lease, unless this run has it already or does not lock at all.
func (d *Driver) hold(ctx context.Context, c *client, since time.Time) (waited bool, err error) {
	d.mu.Lock()
	o := d.lock
	if o == nil {
		d.mu.Unlock()
		return false, nil
	}
	l := d.leases[c]
	if l == nil {
		l = &lease{release: func() {}}
		d.leases[c] = l
	}
	d.mu.Unlock()
	l.once.Do(func() { l.waited, l.err = l.take(ctx, c, Namespace(d.stack.Name), d.stack.Name, since, *o) })
	return l.waited, l.err
}

// take waits until nobody else holds the Lease, and keeps it renewed until release.
func (l *lease) take(ctx context.Context, c *client, namespace, stack string, since time.Time, o LockOptions) (waited bool, err error) {
	lock := &observedLock{changed: make(chan struct{}, 1), Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: leaseName},
		Client:     c.typed.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: o.Holder + leaseMarker + processMark()},
		Labels:     map[string]string{LabelStack: stack, labelManaged: manager},
	}}
	before, _, err := lock.Interface.Get(ctx)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return false, explain("read the lock", err)
	default:
		waited = before.HolderIdentity != "" || before.RenewTime.After(since.Add(-clockSkew))
		if isGone(before.HolderIdentity) {
			before.HolderIdentity = ""
			// If this fails somebody else was faster, and is waited for.
			_ = lock.Update(ctx, *before)
		}
	}
	held, ended := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(held) })
	// The end of ctx must not take the lock away while what was begun is still drained. The
	// zero Logger discards: the elector would log to stderr.
	leading, stop := context.WithCancel(klog.NewContext(context.WithoutCancel(ctx), klog.Logger{}))
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: lock, Name: namespace, LeaseDuration: leaseFor, RenewDeadline: leaseRenew, RetryPeriod: leaseRetry, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(context.Context) { hold() }, OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		stop()
		return waited, err
	}
	go func() {
		defer close(ended)
		for leading.Err() == nil {
			elector.Run(leading)
			// It ends when the Lease cannot be renewed: the API server is away, or this run has
			// deleted the namespace. Then nobody else can take it either.
			if holder, _ := lock.state(); holder != "" && leading.Err() == nil {
				o.Lost(&reconcile.Failure{Reason: reconcile.ReasonLocked, Err: fmt.Errorf("the lock was taken over by another run: %s", holder), Hint: "run apply again when it has ended"})
				return
			}
		}
	}()
	l.release = func() {
		stop()
		select {
		case <-ended:
		case <-time.After(releaseFor): // the cluster is not there any more
		}
	}
	return lock.await(ctx, held, waited, l.release, o)
}

// observedLock tells who else holds the lock, and what waiting cannot help: client-go's
// elector only logs that, and tries for ever.
type observedLock struct {
	resourcelock.Interface
	changed chan struct{} // gets a value when what follows has changed

	mu     sync.Mutex
	holder string
	since  time.Time
	err    error
}

// Get implements resourcelock.Interface.
func (l *observedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if err != nil {
		if !apierrors.IsNotFound(err) {
			l.set("", time.Time{}, err)
		}
		return record, raw, err
	}
	holder := record.HolderIdentity
	if holder == l.Identity() {
		holder = ""
	}
	l.set(holder, record.AcquireTime.Time, nil)
	return record, raw, nil
}

// Create implements resourcelock.Interface.
func (l *observedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	if err != nil && !apierrors.IsAlreadyExists(err) {
		l.set("", time.Time{}, err)
	}
	return err
}

func (l *observedLock) set(holder string, since time.Time, err error) {
	holder, _, _ = strings.Cut(holder, leaseMarker)
	l.mu.Lock()
	same := l.holder == holder && l.since.Equal(since) && (l.err == nil) == (err == nil)
	l.holder, l.since, l.err = holder, since, err
	l.mu.Unlock()
	if same {
		return
	}
	select {
	case l.changed <- struct{}{}:
	default: // one that nobody has looked at yet is there
	}
}

func (l *observedLock) state() (holder string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == "" {
		return "", l.err
	}
	return fmt.Sprintf("%s, since %s", l.holder, l.since.UTC().Format(time.RFC3339)), l.err
}

// await says who holds the lock until it is held by this run.
func (l *observedLock) await(ctx context.Context, held <-chan struct{}, waited bool, release func(), o LockOptions) (bool, error) {
	deadline, remind := time.NewTimer(o.Wait), time.NewTicker(lockRemind)
	defer deadline.Stop()
	defer remind.Stop()
	for {
		select {
		case <-held:
			return waited, nil
		case <-l.changed:
			holder, err := l.state()
			if err = explain("take the lock", err); err != nil && passing(err) != nil {
				release()
				return waited, err
			}
			if holder != "" {
				waited = true
				o.Say("waiting for another run: " + holder)
			}
		case <-remind.C:
			if holder, _ := l.state(); holder != "" {
				o.Say("still waiting for another run: " + holder)
			}
		case <-deadline.C:
			release()
			holder, err := l.state()
			if holder == "" && err != nil {
				return waited, explain("take the lock", err)
			}
			return waited, &reconcile.Failure{
				Reason: reconcile.ReasonLocked,
				Err:    fmt.Errorf("another run holds the stack: %s", holder),
				Hint:   fmt.Sprintf("wait for its end (--lock-timeout), or end it; one that was killed on another machine is taken over after %s", leaseFor),
			}
		case <-ctx.Done():
			release()
			return waited, context.Cause(ctx)
		}
	}
}
