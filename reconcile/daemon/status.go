package daemon

import (
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile/source"
)

// status is what /healthz and /readyz tell. All of it may be read while it is written.
type status struct {
	mu       sync.Mutex
	revision string // newest seen
	healthy  string // last reconciled healthily
	bad      string // of revision or of what is kept in its place; empty when well
	git      string // why git cannot be polled
	ready    bool
	since    time.Time // when ready last changed
	due      time.Time // of the next poll
}

// report is the body of /readyz.
type report struct {
	Ready    bool      `json:"ready"`
	Revision string    `json:"revision"` // the newest one seen
	Applied  string    `json:"applied"`  // the last one reconciled healthily
	Error    string    `json:"error,omitempty"`
	Source   string    `json:"source,omitempty"` // why git cannot be polled
	Since    time.Time `json:"since"`            // when ready last changed
}

func newStatus() *status {
	return &status{since: time.Now(), due: time.Now()}
}

// change edits the status and notes since when it has been ready or not. Ready means that the
// world is known to be equal to the newest commit, and so not while git cannot be asked.
func (s *status) change(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
	ready := s.revision != "" && s.revision == s.healthy && s.bad == "" && s.git == ""
	if ready != s.ready {
		s.ready, s.since = ready, time.Now()
	}
}

func (s *status) sourceFailed(err error) { s.change(func() { s.git = err.Error() }) }
func (s *status) sourceAnswered()        { s.change(func() { s.git = "" }) }

func (s *status) newest(rev source.Revision) {
	s.change(func() { s.revision, s.bad = rev.Hash, "" })
}

// failedAt says that rev failed. While the newest revision is itself unusable, that is the
// more useful thing to tell, and it stays.
func (s *status) failedAt(rev source.Revision, err error) {
	s.change(func() {
		if s.bad == "" || rev.Hash == s.revision || s.revision == "" {
			s.bad = err.Error()
		}
	})
}

func (s *status) applied(rev source.Revision) {
	s.change(func() {
		s.healthy = rev.Hash
		if rev.Hash == s.revision {
			s.bad = ""
		}
	})
}

func (s *status) nextPoll(due time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.due = due
}

func (s *status) report() report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return report{Ready: s.ready, Revision: s.revision, Applied: s.healthy, Error: s.bad, Source: s.git, Since: s.since.UTC()}
}

// pollLate is how long the next poll is overdue; negative when it is not.
func (s *status) pollLate() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.due)
}
