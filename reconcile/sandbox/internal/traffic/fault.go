package traffic

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// When a connection is reset.
const (
	ResetBefore = "before" // nothing has happened
	ResetAfter  = "after"  // the write took effect, its answer is lost
)

// Fault makes the next Count requests that match fail. Exactly one of Status, Reset, Stall
// and Operation says how.
type Fault struct {
	ID      int    `json:"id"`
	Service string `json:"service"`          // default arm
	Method  string `json:"method,omitempty"` // empty: any
	Path    string `json:"path,omitempty"`   // regular expression, any case; empty: any
	Count   int    `json:"count"`            // how many are still to fail; 0 when given: 1

	Status     int      `json:"status,omitempty"`
	RetryAfter Duration `json:"retryAfter,omitempty"`
	Code       string   `json:"code,omitempty"`
	Reset      string   `json:"reset,omitempty"`
	Stall      Duration `json:"stall,omitempty"` // answers as ever, so much later
	// Operation: failed, failed:CODE or never. It is how the long-running operation ends
	// that the request starts.
	Operation string `json:"operation,omitempty"`

	path *regexp.Regexp
}

// Duration is written as 1.5s in JSON.
type Duration time.Duration

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// String says what the fault does.
func (f *Fault) String() string {
	switch {
	case f.Reset != "":
		return "reset " + f.Reset
	case f.Stall > 0:
		return "stall " + time.Duration(f.Stall).String()
	case f.Operation != "":
		return "operation " + f.Operation
	}
	return "status " + strconv.Itoa(f.Status)
}

func (f *Fault) retryAfter() string {
	return strconv.Itoa(int((time.Duration(f.RetryAfter) + time.Second - 1) / time.Second))
}

func (f *Fault) code() string {
	if f.Code != "" {
		return f.Code
	}
	switch f.Status {
	case http.StatusTooManyRequests:
		return "Throttled"
	case http.StatusForbidden:
		return "AuthorizationFailed"
	case http.StatusConflict:
		return "OperationNotAllowed"
	case http.StatusInternalServerError:
		return "InternalServerError"
	}
	return strings.ReplaceAll(http.StatusText(f.Status), " ", "")
}

// check completes the fault, or says what is wrong with it.
func (f *Fault) check() error {
	if f.Service == "" {
		f.Service = ARM
	}
	if !slices.Contains([]string{ARM, Registry, Blob, Git}, f.Service) {
		return fmt.Errorf("service %q: want arm, registry, blob or git", f.Service)
	}
	ways := 0
	for _, given := range []bool{f.Status != 0, f.Reset != "", f.Stall > 0, f.Operation != ""} {
		if given {
			ways++
		}
	}
	switch {
	case ways != 1:
		return errors.New("a fault is exactly one of status, reset, stall and operation")
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d: want 400 to 599", f.Status)
	case f.Reset != "" && f.Reset != ResetBefore && f.Reset != ResetAfter:
		return fmt.Errorf("reset %q: want before or after", f.Reset)
	case f.Operation != "" && f.Operation != "never" && f.Operation != "failed" && !strings.HasPrefix(f.Operation, "failed:"):
		return fmt.Errorf("operation %q: want never, failed or failed:CODE", f.Operation)
	case f.Operation != "" && f.Service != ARM:
		return errors.New("only arm has long-running operations")
	case f.Count < 0:
		return fmt.Errorf("count %d: want 1 or more", f.Count)
	}
	f.Count = max(f.Count, 1)
	var err error
	if f.path, err = regexp.Compile("(?i)" + f.Path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	return nil
}

// AddFault makes requests from now on fail; it gives the fault with its ID.
func (l *Log) AddFault(fault Fault) (Fault, error) {
	if err := fault.check(); err != nil {
		return Fault{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nextID++
	fault.ID = l.nextID
	l.faults = append(l.faults, &fault)
	return fault, nil
}

// Faults gives those that still wait for a request.
func (l *Log) Faults() []Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	faults := []Fault{}
	for _, fault := range l.faults {
		faults = append(faults, *fault)
	}
	return faults
}

// ClearFaults takes them all back.
func (l *Log) ClearFaults() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = nil
}

// Take gives the oldest fault that waits for such a request, or nil, and counts it as used.
func (l *Log) Take(service, method, path string) *Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, fault := range l.faults {
		if fault.Service != service || fault.Method != "" && !strings.EqualFold(fault.Method, method) || !fault.path.MatchString(path) {
			continue
		}
		if fault.Count--; fault.Count == 0 {
			l.faults = slices.Delete(l.faults, i, i+1)
		}
		taken := *fault
		return &taken
	}
	return nil
}
