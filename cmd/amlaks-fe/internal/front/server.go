// Package front is the scoring front end: it authenticates a request, finds
// the front end that dispatches the service, and binds the request to a replica
// when one is free. It knows no Kubernetes: what it serves is told by the Set
// methods, which may be called at any time and in any order.
package front

import (
	"context"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/bearer"
	"github.com/amlaks/amlaks/cmd/amlaks-fe/internal/queue"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

const (
	dialTimeout = 2 * time.Second
	// idleReplica is below gunicorn's keepalive of 2 s, the shortest of the usual
	// model servers: a connection the server closes as we write costs a 502.
	idleReplica = 1500 * time.Millisecond
	// linger is how long a container may go on with a request that was given up
	// before it is taken for dead and its slot used again.
	linger = 60 * time.Second
	// peerDown is how long a front end that refused a connection is left out.
	peerDown = 2 * time.Second
)

// TokenVerifier checks a Kubernetes service account token.
type TokenVerifier interface {
	Verify(ctx context.Context, token, audience, subject string) error
}

// Config is what a Server is made of.
type Config struct {
	Self string // this front end's IP
	Port int    // scoring port of every front end
	// AdminPort of every front end serves Handover.
	AdminPort int
	Tokens    TokenVerifier
	Log       *slog.Logger // access log and diagnostics
	Metrics   prometheus.Registerer
	Version   string // of the build
}

// Server serves the scoring port.
type Server struct {
	config  Config
	keys    bearer.Keys
	metrics *metrics
	// certificates are the listener's that serves TLSConfig.
	certificates *certificates
	proxy        *httputil.ReverseProxy
	replica      *http.Transport
	peer         *http.Transport

	mu        sync.RWMutex
	services  map[string]*service
	endpoints map[string][]string           // backend -> ready IPs
	queues    map[string]*queue.Queue       // by backend; a changed table keeps the queue
	peers     []string                      // ready front ends
	owned     map[string]context.CancelFunc // services dispatched here
	down      map[string]time.Time          // peers that refused, until
	changed   chan struct{}                 // closed when peers change
}

// service is one route with its versions' queues, in the order of the route.
type service struct {
	routes.Service
	queues []*queue.Queue
	split  *split
}

// New returns a server that knows no service yet.
func New(config Config) *Server {
	s := &Server{
		config: config, services: map[string]*service{}, endpoints: map[string][]string{}, queues: map[string]*queue.Queue{},
		down: map[string]time.Time{}, owned: map[string]context.CancelFunc{}, changed: make(chan struct{}),
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s.replica = &http.Transport{
		DialContext: dialReplica(linger), Protocols: protocols, DisableCompression: true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: idleReplica, MaxResponseHeaderBytes: 64 << 10,
	}
	// The pod's own address is the source: that is how access logs know peers.
	dialer := &net.Dialer{Timeout: dialTimeout, LocalAddr: &net.TCPAddr{IP: net.ParseIP(config.Self)}}
	s.peer = &http.Transport{
		DialContext: dialer.DialContext, Protocols: protocols, DisableCompression: true,
		MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite: rewrite, Transport: &dispatcher{server: s}, FlushInterval: -1,
		BufferPool: &bufferPool{}, ErrorHandler: s.fail, ErrorLog: slog.NewLogLogger(config.Log.Handler(), slog.LevelDebug),
	}
	s.metrics = newMetrics(config.Metrics, s, config.Version)
	s.certificates = newCertificates(config.Metrics)
	return s
}

// SetTable replaces the routes.
func (s *Server) SetTable(table routes.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	services, queues := map[string]*service{}, map[string]*queue.Queue{}
	for _, route := range table.Services {
		if len(route.Versions) == 0 {
			continue
		}
		next := &service{Service: route, split: newSplit(route.Versions)}
		if old := s.services[route.Name]; old != nil && slices.Equal(old.Versions, route.Versions) {
			next.split = old.split
		}
		for _, v := range route.Versions {
			q := s.queues[v.Backend]
			if q == nil {
				q = &queue.Queue{}
			}
			q.Set(route.MaxConcurrent, addresses(s.endpoints[v.Backend], v.Port))
			queues[v.Backend] = q
			next.queues = append(next.queues, q)
		}
		services[route.Name] = next
	}
	s.services, s.queues = services, queues
	s.takeOver(s.peers)
}

// SetEndpoints replaces the ready IPs of a backend.
func (s *Server) SetEndpoints(backend string, ips []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ips) == 0 {
		delete(s.endpoints, backend)
	} else {
		s.endpoints[backend] = ips
	}
	for _, svc := range s.services {
		for i, v := range svc.Versions {
			if v.Backend == backend {
				svc.queues[i].Set(svc.MaxConcurrent, addresses(ips, v.Port))
			}
		}
	}
}

// SetKeys replaces the keys of a Secret; without keys it is forgotten.
func (s *Server) SetKeys(secret string, keys ...[]byte) { s.keys.Set(secret, keys...) }

// SetPeers replaces the IPs of the ready front ends, this one among them if it is.
func (s *Server) SetPeers(ips []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		// What was taken for ours before we knew of others was not asked for.
		for name, cancel := range s.owned {
			cancel()
			delete(s.owned, name)
		}
	}
	others := slices.Concat(s.peers, ips)
	slices.Sort(others)
	s.peers = slices.Sorted(slices.Values(ips))
	s.ownersChanged(slices.Compact(others))
}

// ownersChanged takes over what is now this front end's, from others, and wakes
// requests that wait here for a service that is now another's.
func (s *Server) ownersChanged(others []string) {
	s.takeOver(others)
	close(s.changed)
	s.changed = make(chan struct{})
	for name, svc := range s.services {
		if s.owner(name) != s.config.Self {
			for _, q := range svc.queues {
				q.Evict()
			}
		}
	}
}

// peerRefused leaves a front end out for a moment.
func (s *Server) peerRefused(ip string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down[ip] = time.Now().Add(peerDown)
	s.ownersChanged(s.peers)
	time.AfterFunc(peerDown, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ownersChanged(s.peers)
	})
}

// coordinator is the front end that dispatches a service, and a channel that is
// closed when that may have changed.
func (s *Server) coordinator(service string) (ip string, changed <-chan struct{}) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.owner(service), s.changed
}

// owner is the ready front end with the highest hash (rendezvous): when one
// comes or goes only its own services move. Alone, it is this one.
func (s *Server) owner(service string) string {
	best, highest := s.config.Self, uint64(0)
	now := time.Now()
	for _, ip := range s.peers {
		if until, ok := s.down[ip]; ok && ip != s.config.Self && now.Before(until) {
			continue
		}
		h := fnv.New64a()
		_, _ = io.WriteString(h, ip+"/"+service)
		// FNV's high bits barely depend on the last bytes; mix before comparing.
		x := h.Sum64()
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		x ^= x >> 33
		if x > highest {
			best, highest = ip, x
		}
	}
	return best
}

func (s *Server) service(name string) *service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.services[name]
}

// each calls f for every version of every service.
func (s *Server) each(f func(service, version string, q *queue.Queue)) {
	s.mu.RLock()
	services := slices.Collect(maps.Values(s.services))
	s.mu.RUnlock()
	for _, svc := range services {
		for i, v := range svc.Versions {
			f(svc.Name, v.Name, svc.queues[i])
		}
	}
}

func addresses(ips []string, port int) []string {
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, net.JoinHostPort(ip, strconv.Itoa(port)))
	}
	return out
}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) Get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *bufferPool) Put(b []byte) { p.pool.Put(&b) }
