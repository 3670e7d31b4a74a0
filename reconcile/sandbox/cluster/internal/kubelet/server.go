package kubelet

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Handler is the part of the kubelet's API that the API server asks for:
//
//	GET /containerLogs/NAMESPACE/POD/CONTAINER
//
// The caller's certificate is checked by whoever serves it.
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", p.containerLogs)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "this node runs pods as plain processes and offers logs only", http.StatusNotFound)
	})
	return mux
}

func (p *Provider) containerLogs(rw http.ResponseWriter, r *http.Request) {
	pod, err := p.Pods.Pods(r.PathValue("namespace")).Get(r.PathValue("pod"))
	if err != nil {
		http.Error(rw, err.Error(), http.StatusNotFound)
		return
	}
	w := p.find(pod.Namespace, pod.Name, pod.UID)
	if w == nil {
		http.Error(rw, fmt.Sprintf("pod %q is waiting to start", pod.Name), http.StatusBadRequest)
		return
	}
	q := r.URL.Query()
	o := logOptions{tail: -1, timestamps: q.Get("timestamps") == "true", follow: q.Get("follow") == "true"}
	if s := q.Get("tailLines"); s != "" {
		if o.tail, err = strconv.Atoi(s); err != nil || o.tail < 0 {
			http.Error(rw, "bad tailLines", http.StatusBadRequest)
			return
		}
	}
	if s := q.Get("limitBytes"); s != "" {
		if o.limit, err = strconv.ParseInt(s, 10, 64); err != nil || o.limit < 1 {
			http.Error(rw, "bad limitBytes", http.StatusBadRequest)
			return
		}
	}
	if s := q.Get("sinceSeconds"); s != "" {
		seconds, err := strconv.Atoi(s)
		if err != nil {
			http.Error(rw, "bad sinceSeconds", http.StatusBadRequest)
			return
		}
		o.since = time.Now().Add(-time.Duration(seconds) * time.Second)
	}
	if s := q.Get("sinceTime"); s != "" {
		if o.since, err = time.Parse(time.RFC3339, s); err != nil {
			http.Error(rw, "bad sinceTime", http.StatusBadRequest)
			return
		}
	}
	c, run, state := w.runOf(r.PathValue("container"))
	switch {
	case c == nil:
		http.Error(rw, "no such container in the pod", http.StatusNotFound)
		return
	case q.Get("previous") == "true":
		if w.previous(c) < 0 {
			http.Error(rw, "previous terminated container "+strconv.Quote(c.spec.Name)+" not found", http.StatusBadRequest)
			return
		}
		run, o.follow = w.previous(c), false
	case state.Waiting != nil && w.previous(c) < 0:
		http.Error(rw, fmt.Sprintf("container %q in pod %q is waiting to start: %s", c.spec.Name, pod.Name, state.Waiting.Reason), http.StatusBadRequest)
		return
	case state.Running == nil:
		o.follow = false
	}
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	flush := func() {}
	if f, ok := rw.(http.Flusher); ok {
		flush = f.Flush
	}
	// An error now has no other way to be told than a short answer.
	_ = sendLog(r.Context(), rw, flush, w.logName(c.spec.Name, run), o, w.ended(r.Context(), c, run))
}

// runOf gives the container, which of its runs has the newest log, and
// its state.
func (w *workload) runOf(name string) (*container, int32, corev1.ContainerState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range [][]*container{w.inits, w.containers} {
		for _, c := range list {
			if c.spec.Name == name {
				return c, c.restarts, c.state
			}
		}
	}
	return nil, 0, corev1.ContainerState{}
}

// previous is the run before the one that is running or has just ended; while
// a container waits to be started again, that is its last run. -1: none.
func (w *workload) previous(c *container) int32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.state.Waiting != nil && c.last.Terminated != nil {
		return c.restarts
	}
	return c.restarts - 1
}

// ended is closed when that run of the container is over.
func (w *workload) ended(ctx context.Context, c *container, run int32) <-chan struct{} {
	out := make(chan struct{})
	go func() {
		defer close(out)
		tick := time.NewTicker(followEvery)
		defer tick.Stop()
		for {
			w.mu.Lock()
			over := c.restarts != run || c.state.Running == nil
			w.mu.Unlock()
			if over {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-w.done:
				return
			case <-tick.C:
			}
		}
	}()
	return out
}
