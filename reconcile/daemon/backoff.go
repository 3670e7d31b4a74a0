package daemon

import "time"

// backoff is the wait after so many failures in a row: first, doubled each time up to limit,
// of which a random fifth is taken off, so that daemons that failed together do not return
// together.
func backoff(failures int, first, limit time.Duration, jitter float64) time.Duration {
	d := first
	for range failures - 1 {
		if d >= limit {
			break
		}
		d *= 2
	}
	d = min(d, max(first, limit))
	return d - time.Duration(jitter*float64(d)/5)
}
