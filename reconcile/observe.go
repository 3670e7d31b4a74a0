package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// World is what was observed of a stack.
type World struct {
	Live    []Live  // sorted by address
	Absent  []Live  // what is not there, and something is to be said of; sorted by address
	Outputs Outputs // of what is there
}

// Observe asks the drivers, in their order, what is there. A driver sees the outputs of
// those before it, so the order is that in which they depend on each other.
func Observe(ctx context.Context, drivers []Driver, stack string, desired []Resource) (*World, error) {
	w := &World{Outputs: Outputs{}}
	for _, driver := range drivers {
		request := Request{Stack: stack, Outputs: w.Outputs, Inputs: Outputs{}}
		for _, r := range desired {
			if r.Driver != driver.Name() {
				continue
			}
			r.Desired = resolveBody(r.Desired, w.Outputs)
			request.Resources = append(request.Resources, r)
			request.Inputs[r.Address] = resolveInputs(r.Inputs, w.Outputs)
		}
		live, err := driver.Observe(ctx, request)
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
			err = fmt.Errorf("%w: %w", cause, err) // some clients only tell that they were cancelled, not why
		}
		if err != nil {
			return nil, fmt.Errorf("observe %s: %w", driver.Name(), err)
		}
		for _, l := range live {
			l.Driver = driver.Name()
			if l.Absent {
				w.Absent = append(w.Absent, l)
				continue
			}
			w.Live = append(w.Live, l)
			if len(l.Outputs) > 0 {
				w.Outputs[l.Address] = l.Outputs
			}
		}
	}
	for _, list := range [][]Live{w.Live, w.Absent} {
		slices.SortStableFunc(list, func(a, b Live) int { return strings.Compare(string(a.Address), string(b.Address)) })
	}
	return w, nil
}

// resolveInputs leaves out what is not known.
func resolveInputs(inputs map[string]Ref, known Outputs) map[string]string {
	out := make(map[string]string, len(inputs))
	for name, ref := range inputs {
		if value, ok := known[ref.Address][ref.Output]; ok {
			out[name] = value
		}
	}
	return out
}
