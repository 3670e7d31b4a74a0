package front

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/queue"
)

const (
	// hopHeader counts the front ends that a request has passed. It grants
	// nothing: the coordinator authenticates again, and a forged value only keeps
	// a request from being forwarded.
	hopHeader = "X-Amlaks-Hop"
	// maxHops is one hop, and one more while front ends come and go and two of
	// them see different coordinators.
	maxHops = 2
	// refusedReplica is how long a replica that refused a connection is left out.
	refusedReplica = time.Second
)

var (
	errScoringTimeout = errors.New("the model did not answer in time")
	errNoCoordinator  = errors.New("the front ends do not agree on who dispatches this service")
)

// exchange is one request on its way through; its handler and the dispatcher share it.
type exchange struct {
	service       *service
	version       int
	path          string // at the replica
	authorization string
	hops          int
	requestID     string
	body          body
	extendRead    func(time.Duration)

	// What the access log tells.
	start     time.Time
	queued    time.Duration
	bound     bool
	replica   string
	forwarded string
	reason    string
}

type exchangeKey struct{}

// dispatcher is the transport below the reverse proxy: it decides where a
// request goes, and when.
type dispatcher struct{ server *Server }

// RoundTrip errors: those of package queue, errScoringTimeout,
// errNoCoordinator, the client's cancellation, or the replica's connection's.
func (d *dispatcher) RoundTrip(req *http.Request) (*http.Response, error) {
	x := req.Context().Value(exchangeKey{}).(*exchange)
	s := d.server
	began := time.Now()
	wait := time.Duration(x.service.MaxQueueWaitMs) * time.Millisecond
	for retried := false; ; {
		remaining := wait - time.Since(began)
		owner, changed := s.coordinator(x.service.Name)
		if owner != s.config.Self {
			if x.hops < maxHops {
				resp, err := d.forward(req, x, owner)
				if refused(err) {
					s.peerRefused(owner)
					continue
				}
				return resp, err
			}
			if err := await(req.Context(), changed, remaining); err != nil {
				return nil, err
			}
			continue
		}
		slot, err := x.service.queues[x.version].Acquire(req.Context(), remaining)
		x.queued = time.Since(began)
		if errors.Is(err, queue.ErrMoved) {
			continue
		}
		if err != nil {
			return nil, err
		}
		x.bound, x.replica = true, slot.Address()
		resp, err := d.score(req, x, slot)
		if refused(err) {
			x.service.queues[x.version].Suspend(slot.Address(), refusedReplica)
			if !retried {
				retried = true
				continue
			}
		}
		return resp, err
	}
}

func await(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return errNoCoordinator
	}
}

// refused reports whether no byte was sent: the connection was never made.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// forward hands the request, as it came, to the coordinator.
func (d *dispatcher) forward(req *http.Request, x *exchange, owner string) (*http.Response, error) {
	x.forwarded = owner
	out := req.Clone(req.Context())
	out.URL.Scheme, out.URL.Host = "http", net.JoinHostPort(owner, strconv.Itoa(d.server.config.Port))
	out.Header.Set(hopHeader, strconv.Itoa(x.hops+1))
	if x.authorization != "" {
		out.Header.Set("Authorization", x.authorization)
	}
	x.body.attach(out)
	return d.server.peer.RoundTrip(out)
}

// score sends the request to the slot's replica. The slot goes back when the
// replica has given its whole answer or has closed the connection.
func (d *dispatcher) score(req *http.Request, x *exchange, slot *queue.Slot) (*http.Response, error) {
	timeout := time.Duration(x.service.ScoringTimeoutMs) * time.Millisecond
	x.extendRead(timeout + 5*time.Second)
	ctx, cancel := context.WithTimeoutCause(req.Context(), timeout, errScoringTimeout)
	l := &lease{slot: slot, cancel: cancel}
	out := req.Clone(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: l.got}))
	out.URL.Scheme, out.URL.Host = "http", slot.Address()
	out.URL.Path, out.URL.RawPath = x.path, ""
	out.Header.Del("Azureml-Model-Deployment")
	x.body.attach(out)
	resp, err := d.server.replica.RoundTrip(out)
	if err != nil {
		if errors.Is(context.Cause(ctx), errScoringTimeout) {
			err = errScoringTimeout
		}
		l.end(false)
		return nil, err
	}
	l.ReadCloser = resp.Body
	resp.Body = l
	if resp.StatusCode == http.StatusInternalServerError {
		// azureml-fe kept 500 for itself; clients of v1 know a failed script by 502.
		resp.StatusCode, resp.Status = http.StatusBadGateway, ""
		resp.Header.Set("X-Amlaks-Model-Status", "500")
		x.reason = "model_error"
	}
	if len(x.service.Versions) > 1 {
		resp.Header.Set("Azureml-Model-Deployment", x.service.Versions[x.version].Name)
	}
	return resp, nil
}

// lease is the body of a replica's answer; its end gives the slot back.
type lease struct {
	io.ReadCloser
	slot   *queue.Slot
	cancel context.CancelFunc
	once   sync.Once

	mu   sync.Mutex
	conn *replicaConn // nil until there is one
}

func (l *lease) got(info httptrace.GotConnInfo) {
	if conn, ok := info.Conn.(*replicaConn); ok {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conn = conn
	}
}

func (l *lease) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	if err == io.EOF {
		l.end(true)
	}
	return n, err
}

func (l *lease) Close() error {
	l.cancel()
	err := l.ReadCloser.Close()
	l.end(false)
	return err
}

// end gives back the slot: at once after a whole answer or without a
// connection, else when the connection is really over.
func (l *lease) end(whole bool) {
	l.once.Do(func() {
		l.cancel()
		l.mu.Lock()
		conn := l.conn
		l.mu.Unlock()
		if whole || conn == nil {
			l.slot.Release()
			return
		}
		_ = conn.Close()
		go func() {
			<-conn.closed
			l.slot.Release()
		}()
	})
}
