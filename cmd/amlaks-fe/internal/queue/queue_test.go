package queue

import (
	"context"
	"errors"
	"testing"
	"time"
)

func waitFor(t *testing.T, q *Queue, waiting int) {
	t.Helper()
	deadline := time.After(5 * time.Second)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for q.Stats().Waiting != waiting {
		select {
		case <-deadline:
			t.Fatalf("%d wait, want %d", q.Stats().Waiting, waiting)
		case <-tick.C:
		}
	}
}

func TestFirstComeFirstServed(t *testing.T) {
	var q Queue
	q.Set(1, []string{"a:1"})
	slot, err := q.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	order := make(chan int, 5)
	for i := range 5 {
		go func() {
			s, err := q.Acquire(t.Context(), time.Minute)
			if err != nil {
				t.Error(err)
				return
			}
			order <- i
			s.Release()
		}()
		waitFor(t, &q, i+1)
	}
	slot.Release()
	for want := range 5 {
		if got := <-order; got != want {
			t.Errorf("request %d came when %d was due", got, want)
		}
	}
}

func TestWhyNot(t *testing.T) {
	var q Queue
	if _, err := q.Acquire(t.Context(), time.Millisecond); !errors.Is(err, ErrNoReplica) {
		t.Errorf("no replica: %v", err)
	}
	q.Set(1, []string{"a:1"})
	if _, err := q.Acquire(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Acquire(t.Context(), time.Millisecond); !errors.Is(err, ErrTimeout) {
		t.Errorf("busy: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	go func() { _, err := q.Acquire(ctx, time.Minute); got <- err }()
	waitFor(t, &q, 1)
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) {
		t.Errorf("client gone: %v", err)
	}
	go func() { _, err := q.Acquire(t.Context(), time.Minute); got <- err }()
	waitFor(t, &q, 1)
	q.Evict()
	if err := <-got; !errors.Is(err, ErrMoved) {
		t.Errorf("evicted: %v", err)
	}
}

// A replica that left and came back is as busy as before.
func TestReturnOfABusyReplica(t *testing.T) {
	var q Queue
	q.Set(1, []string{"a:1"})
	slot, err := q.Acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	q.Set(1, nil)
	q.Set(1, []string{"a:1"})
	if _, err := q.Acquire(t.Context(), 0); !errors.Is(err, ErrTimeout) {
		t.Errorf("got a second slot: %v", err)
	}
	slot.Release()
	slot.Release()
	if _, err := q.Acquire(t.Context(), 0); err != nil {
		t.Errorf("after release: %v", err)
	}
	if _, err := q.Acquire(t.Context(), 0); !errors.Is(err, ErrTimeout) {
		t.Errorf("two releases gave two slots: %v", err)
	}
}
