// Package queue holds the requests of one service version until a container is
// free: late binding. A request is given a replica only when that replica has
// fewer than limit requests in flight, in the order of arrival.
//
// Binding on arrival, as random, round-robin and least-connection balancers do,
// refuses several percent of requests at 70 % load; one queue in front of all
// replicas refuses none.
package queue

import (
	"container/list"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Why Acquire gave no slot.
var (
	ErrTimeout   = errors.New("every replica was busy for as long as a request may wait")
	ErrNoReplica = errors.New("no replica is ready")
	ErrFull      = errors.New("too many requests are waiting")
	// ErrMoved asks the caller to find out anew who dispatches this service.
	ErrMoved = errors.New("another front end dispatches this service now")
)

// maxWaiting bounds what a burst can hold in memory: each waiting request may
// have its first 64 KiB buffered.
const maxWaiting = 1000

// Queue is safe for use by several goroutines. The zero value has no replicas.
type Queue struct {
	mu       sync.Mutex
	limit    int
	held     int        // how many ask for no slot to be given
	replicas []*replica // sorted by address
	next     int        // where the search for a free replica starts, so that ties take turns
	waiting  list.List  // of *waiter, oldest first
}

type replica struct {
	address  string
	ready    bool
	inFlight int
	// elsewhere is what other front ends still have in flight here.
	elsewhere int
	// suspended is counted up by Suspend and down when its time is over.
	suspended int
}

type waiter struct {
	granted chan grant // capacity 1: the dispatcher never blocks
	element *list.Element
}

type grant struct {
	slot *Slot
	err  error
}

// Slot is the right to have one request in flight at a replica.
type Slot struct {
	queue    *Queue
	replica  *replica
	released sync.Once
}

// Address is the replica's host:port.
func (s *Slot) Address() string { return s.replica.address }

// Release gives the slot to the next request. Calls after the first do nothing.
func (s *Slot) Release() {
	s.released.Do(func() {
		q := s.queue
		q.mu.Lock()
		defer q.mu.Unlock()
		s.replica.inFlight--
		q.forget()
		q.dispatch()
	})
}

// Set replaces the ready replicas (host:port) and the limit of requests in
// flight at each. What is in flight at a replica that has left still counts,
// should the replica come back.
func (q *Queue) Set(limit int, addresses []string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limit = limit
	for _, r := range q.replicas {
		r.ready = false
	}
	for _, address := range addresses {
		q.at(address).ready = true
	}
	q.forget()
	q.dispatch()
}

// at returns the replica of an address, which it adds when new.
func (q *Queue) at(address string) *replica {
	i, found := slices.BinarySearchFunc(q.replicas, address, func(r *replica, a string) int { return strings.Compare(r.address, a) })
	if !found {
		q.replicas = slices.Insert(q.replicas, i, &replica{address: address})
	}
	return q.replicas[i]
}

// forget drops replicas that are gone and idle.
func (q *Queue) forget() {
	q.replicas = slices.DeleteFunc(q.replicas, func(r *replica) bool {
		return !r.ready && r.inFlight == 0 && r.elsewhere == 0 && r.suspended == 0
	})
}

// Suspend leaves a replica out for a while: its connection was refused, and
// Kubernetes takes seconds to notice.
func (q *Queue) Suspend(address string, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.at(address)
	r.suspended++
	time.AfterFunc(d, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		r.suspended--
		q.forget()
		q.dispatch()
	})
}

// Hold adds n to the number of those who want no slot handed out; slots are
// handed out at zero. Requests go on waiting.
func (q *Queue) Hold(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held += n
	q.dispatch()
}

// SetElsewhere says how many requests other front ends have in flight at each
// replica; they take slots here until a later call says they ended.
func (q *Queue) SetElsewhere(inFlight map[string]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range q.replicas {
		r.elsewhere = 0
	}
	for address, n := range inFlight {
		q.at(address).elsewhere = n
	}
	q.forget()
	q.dispatch()
}

// Evict ends every wait with ErrMoved.
func (q *Queue) Evict() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := q.waiting.Front(); e != nil; e = q.waiting.Front() {
		q.waiting.Remove(e)
		e.Value.(*waiter).granted <- grant{err: ErrMoved}
	}
}

// Acquire waits up to wait for a slot.
func (q *Queue) Acquire(ctx context.Context, wait time.Duration) (*Slot, error) {
	q.mu.Lock()
	if q.waiting.Len() == 0 {
		if s := q.take(); s != nil {
			q.mu.Unlock()
			return s, nil
		}
	}
	if q.waiting.Len() >= maxWaiting {
		q.mu.Unlock()
		return nil, ErrFull
	}
	if wait <= 0 {
		defer q.mu.Unlock()
		return nil, q.why()
	}
	w := &waiter{granted: make(chan grant, 1)}
	w.element = q.waiting.PushBack(w)
	q.mu.Unlock()

	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case g := <-w.granted:
		return g.slot, g.err
	case <-ctx.Done():
		return nil, q.leave(w, context.Cause(ctx))
	case <-timer.C:
		return nil, q.leave(w, nil)
	}
}

// leave takes w out of the queue and gives back a slot that came at the last
// moment. A nil cause means that the wait is over.
func (q *Queue) leave(w *waiter, cause error) error {
	q.mu.Lock()
	q.waiting.Remove(w.element)
	why := q.why()
	q.mu.Unlock()
	select {
	case g := <-w.granted:
		if g.slot != nil {
			g.slot.Release()
		}
	default:
	}
	if cause != nil {
		return cause
	}
	return why
}

func (q *Queue) why() error {
	if !slices.ContainsFunc(q.replicas, func(r *replica) bool { return r.ready && r.suspended == 0 }) {
		return ErrNoReplica
	}
	return ErrTimeout
}

// dispatch hands free slots to the oldest requests.
func (q *Queue) dispatch() {
	for q.waiting.Len() > 0 {
		s := q.take()
		if s == nil {
			return
		}
		w := q.waiting.Remove(q.waiting.Front()).(*waiter)
		w.granted <- grant{slot: s}
	}
}

// take returns a slot at the least busy ready replica, or nil.
func (q *Queue) take() *Slot {
	if q.held > 0 {
		return nil
	}
	var best *replica
	at := 0
	for i := range q.replicas {
		j := (q.next + i) % len(q.replicas)
		r := q.replicas[j]
		if !r.ready || r.suspended > 0 || r.inFlight+r.elsewhere >= q.limit {
			continue
		}
		if best == nil || r.inFlight+r.elsewhere < best.inFlight+best.elsewhere {
			best, at = r, j
		}
	}
	if best == nil {
		return nil
	}
	q.next = at + 1
	best.inFlight++
	return &Slot{queue: q, replica: best}
}

// Stats is a moment's view of a queue.
type Stats struct {
	Ready, Waiting int
	// InFlight is this front end's own, by replica address, without zeros.
	InFlight map[string]int
}

// Stats returns the present view.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := Stats{Waiting: q.waiting.Len(), InFlight: map[string]int{}}
	for _, r := range q.replicas {
		if r.ready {
			s.Ready++
		}
		if r.inFlight > 0 {
			s.InFlight[r.address] = r.inFlight
		}
	}
	return s
}
