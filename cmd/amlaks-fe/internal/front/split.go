package front

import (
	"sync"

	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

// split shares a service's requests between its versions by smooth weighted
// round robin (nginx's): deterministic, and without bursts.
type split struct {
	mu      sync.Mutex
	weights []float64
	current []float64
}

// newSplit weighs versions by Percent; the default takes what the others leave.
func newSplit(versions []routes.Version) *split {
	s := &split{weights: make([]float64, len(versions)), current: make([]float64, len(versions))}
	rest, fallback := 100.0, 0
	for i, v := range versions {
		if v.Default {
			fallback = i
			continue
		}
		s.weights[i] = v.Percent
		rest -= v.Percent
	}
	if len(versions) > 0 {
		s.weights[fallback] = max(rest, 0)
	}
	return s
}

// next is the index of the version for the next request.
func (s *split) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	best, total := 0, 0.0
	for i, w := range s.weights {
		s.current[i] += w
		total += w
		if w > 0 && (s.weights[best] == 0 || s.current[i] > s.current[best]) {
			best = i
		}
	}
	s.current[best] -= total
	return best
}
