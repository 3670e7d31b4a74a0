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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// When a connection is reset.
const (
	ResetBefore = "before" // nothing has happened
	ResetMiddle = "middle" // half of an upload to the registry has come, and is kept; half of a blob was sent
	ResetAfter  = "after"  // the write took effect, its answer is lost
)

// Fault makes the next Count requests that match fail. Exactly one of Status, Reset, Stall
// and Operation says how.
type Fault struct {
	ID      int    `json:"id"`
	Service string `json:"service"`          // default arm
	Method  string `json:"method,omitempty"` // empty: any; DRY-RUN: a write that Kubernetes only tries out
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

// dryRun stands for the method of a write that changes nothing: a fault meant for writes must
// not be used up by the plan that comes before them.
const dryRun = "DRY-RUN"

func methodOf(r *http.Request) string {
	if r.URL.Query().Get("dryRun") != "" {
		return dryRun
	}
	return r.Method
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
	if f.Service == Kube {
		return string(kubeReason(f.Status))
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

// kubeReason is what an API server says beside a status.
func kubeReason(status int) metav1.StatusReason {
	switch status {
	case http.StatusBadRequest:
		return metav1.StatusReasonBadRequest
	case http.StatusUnauthorized:
		return metav1.StatusReasonUnauthorized
	case http.StatusForbidden:
		return metav1.StatusReasonForbidden
	case http.StatusNotFound:
		return metav1.StatusReasonNotFound
	case http.StatusConflict:
		return metav1.StatusReasonConflict
	case http.StatusUnprocessableEntity:
		return metav1.StatusReasonInvalid
	case http.StatusTooManyRequests:
		return metav1.StatusReasonTooManyRequests
	case http.StatusInternalServerError:
		return metav1.StatusReasonInternalError
	case http.StatusServiceUnavailable:
		return metav1.StatusReasonServiceUnavailable
	case http.StatusGatewayTimeout:
		return metav1.StatusReasonTimeout
	}
	return metav1.StatusReasonUnknown
}

// check completes the fault, or says what is wrong with it.
func (f *Fault) check() error {
	if f.Service == "" {
		f.Service = ARM
	}
	if !slices.Contains([]string{ARM, Registry, Blob, Git, Kube, Vault}, f.Service) {
		return fmt.Errorf("service %q: want arm, registry, blob, git or kube", f.Service)
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
	case f.Reset != "" && !slices.Contains([]string{ResetBefore, ResetMiddle, ResetAfter}, f.Reset):
		return fmt.Errorf("reset %q: want before, middle or after", f.Reset)
	case f.Reset == ResetMiddle && f.Service != Registry && f.Service != Blob:
		return errors.New("reset middle: only the registry keeps half of a request, and only the blob store sends half of an answer")
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
