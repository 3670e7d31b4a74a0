package arm

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/traffic"
)

// The states of operations and resources.
const (
	inProgress = "InProgress"
	succeeded  = "Succeeded"
	failed     = "Failed"
	canceled   = "Canceled"
	deleting   = "Deleting"
)

const (
	maxOperations = 1000 // kept after their end
	// pollEvery tells clients of azcore when to ask again; others read Retry-After.
	pollEvery = "50"
)

// operation is a long-running one. All there is to do is to bring Kubernetes in line with
// the resources, so one that was cut short can simply be run again.
type operation struct {
	ID      string     `json:"id"`
	Cluster string     `json:"cluster"` // its key
	Delete  bool       `json:"delete,omitempty"`
	Touched []string   `json:"touched"` // keys of the resources whose state it decides
	Status  string     `json:"status"`
	Code    string     `json:"code,omitempty"`
	Message string     `json:"message,omitempty"`
	Started time.Time  `json:"started"`
	Ended   *time.Time `json:"ended,omitempty"`
	Plain   bool       `json:"plain,omitempty"` // nothing to do with Kubernetes
	Never   bool       `json:"never,omitempty"` // a fault: it does not end
	Fail    string     `json:"fail,omitempty"`  // a fault: the code it fails with
}

// begin starts an operation and writes the headers by which a client follows it.
func (s *Server) begin(w http.ResponseWriter, r *request, op *operation) {
	op.ID, op.Status, op.Started = s.uuid("operation"), inProgress, time.Now().UTC()
	switch fault := traffic.OperationFault(r.Context()); {
	case fault == "never":
		op.Never = true
	case fault == "failed":
		op.Fail = "InternalOperationError"
	case fault != "":
		op.Fail = strings.TrimPrefix(fault, "failed:")
	}
	s.state.Operations[op.ID] = op
	s.save()
	if !op.Never {
		s.run(op)
	}
	w.Header().Set("Azure-AsyncOperation", s.link(r, op, "Microsoft.ContainerService", "operations"))
	pollHeaders(w)
}

// link is where a client follows an operation.
func (s *Server) link(r *request, op *operation, provider, kind string) string {
	return fmt.Sprintf("%s/subscriptions/%s/providers/%s/locations/%s/%s/%s?api-version=%s",
		s.config.Endpoint, s.config.SubscriptionID, provider, Location, kind, op.ID, r.URL.Query().Get("api-version"))
}

func pollHeaders(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	w.Header().Set("Retry-After-Ms", pollEvery)
}

// run works on an operation until its end or Close. Called under the lock.
func (s *Server) run(op *operation) {
	s.running.Go(func() {
		timer := time.NewTimer(s.config.OperationTime)
		defer timer.Stop()
		err := s.work(op)
		select {
		case <-timer.C:
		case <-s.ctx.Done():
		}
		if s.ctx.Err() != nil {
			return // it stays in progress, for the next New
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.finish(op, err)
	})
}

func (s *Server) work(op *operation) error {
	if op.Fail != "" {
		return refusal(http.StatusOK, op.Fail, "The operation failed: a fault of the sandbox.")
	}
	if op.Plain {
		return nil
	}
	if op.Delete {
		return s.config.Kubernetes.Remove(s.ctx, op.Cluster)
	}
	s.mu.Lock()
	pools := s.nodePools(op.Cluster)
	s.mu.Unlock()
	return s.config.Kubernetes.Apply(s.ctx, op.Cluster, pools)
}

// finish writes the outcome. Called under the lock.
func (s *Server) finish(op *operation, err error) {
	if op.Status != inProgress {
		return // aborted
	}
	now := time.Now().UTC()
	op.Ended, op.Status = &now, succeeded
	outcome := succeeded
	if err == nil && !op.Plain {
		s.state.Running[op.Cluster] = true
	}
	if err != nil {
		op.Status, outcome = failed, failed
		op.Code, op.Message = "InternalOperationError", err.Error()
		if refused, ok := err.(*apiError); ok {
			op.Code, op.Message = refused.code, refused.message
		}
		s.config.Logf("operation on %s failed: %s: %s", op.Cluster, op.Code, op.Message)
	}
	if op.Delete && err == nil {
		delete(s.state.Running, op.Cluster)
		for _, id := range s.under(func(id string) bool { return id == op.Cluster || strings.HasPrefix(id, op.Cluster+"/") }) {
			delete(s.state.Resources, id)
		}
	}
	for _, id := range op.Touched {
		resource, ok := s.state.Resources[id]
		switch {
		case !ok:
		case err == nil && id != op.Cluster && text(resource, "properties.provisioningState") == deleting:
			delete(s.state.Resources, id)
		default:
			put(resource, "properties.provisioningState", outcome)
		}
	}
	s.forget()
	s.save()
}

// forget drops the oldest operations that have ended.
func (s *Server) forget() {
	ended := slices.DeleteFunc(slices.Collect(maps.Values(s.state.Operations)), func(op *operation) bool { return op.Ended == nil })
	slices.SortFunc(ended, func(a, b *operation) int { return a.Ended.Compare(*b.Ended) })
	for i := 0; i < len(ended)-maxOperations; i++ {
		delete(s.state.Operations, ended[i].ID)
	}
}

// busy is the operation that runs on a cluster, or nil. AKS runs one at a time.
func (s *Server) busy(cluster string) *operation {
	for _, op := range s.state.Operations {
		if op.Cluster == cluster && op.Status == inProgress {
			return op
		}
	}
	return nil
}

func (s *Server) refuseBusy(cluster string) *apiError {
	if op := s.busy(cluster); op != nil {
		return refusal(http.StatusConflict, "OperationNotAllowed",
			"Operation is not allowed: another operation (%s) is in progress. Please wait for it to finish before starting a new operation.", op.ID)
	}
	return nil
}

// Release lets operations end that a fault had told never to.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.state.Operations {
		if op.Status == inProgress && op.Never {
			op.Never = false
			s.run(op)
		}
	}
	s.save()
}

func (s *Server) getOperation(w http.ResponseWriter, r *request, id string) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	op, ok := s.state.Operations[id]
	if !ok {
		return refusal(http.StatusNotFound, "OperationNotFound", "The operation '%s' was not found.", id)
	}
	answer := body{"id": r.URL.Path, "name": op.ID, "status": op.Status, "startTime": op.Started.Format(time.RFC3339Nano)}
	if op.Ended != nil {
		answer["endTime"] = op.Ended.Format(time.RFC3339Nano)
	}
	if op.Code != "" {
		answer["error"] = body{"code": op.Code, "message": op.Message}
	}
	if op.Status == inProgress {
		pollHeaders(w)
	}
	reply(w, http.StatusOK, answer)
	return nil
}

// abort cancels the operation that runs on a cluster: what it was to make stays as it is.
func (s *Server) abort(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodPost {
		return badMethod(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	op := s.busy(r.cluster())
	if op == nil {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	now := time.Now().UTC()
	op.Status, op.Ended = canceled, &now
	op.Code, op.Message = "OperationPreempted", "The operation was aborted."
	for _, id := range op.Touched {
		if resource, ok := s.state.Resources[id]; ok {
			put(resource, "properties.provisioningState", canceled)
		}
	}
	s.save()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// Restart brings Kubernetes up again behind every cluster that had one, and waits.
func (s *Server) Restart(ctx context.Context) error {
	s.mu.Lock()
	pools := map[string][]Pool{}
	for _, id := range s.under(isCluster) {
		if s.state.Running[id] {
			pools[id] = s.nodePools(id)
		}
	}
	s.mu.Unlock()
	errs := make(chan error, len(pools))
	for id, of := range pools {
		s.running.Go(func() {
			err := s.config.Kubernetes.Apply(ctx, id, of)
			if err != nil {
				err = fmt.Errorf("start %s: %w", id, err)
			}
			errs <- err
		})
	}
	var first error
	for range pools {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}
