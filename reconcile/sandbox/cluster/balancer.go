package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	listers "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/kubelet"
)

// balancer is the cloud's part in Services of type LoadBalancer: an address
// for each, listened on at the Service's ports, connections handed in turn to
// its ready endpoints.
type balancer struct {
	c        *Cluster
	services listers.ServiceLister
	slices   discoverylisters.EndpointSliceLister
	synced   []cache.InformerSynced
	recorder record.EventRecorder
	queue    workqueue.TypedRateLimitingInterface[string]

	mu     sync.Mutex
	fronts map[string]*front // by namespace/name of the Service
}

// front is the listeners of one Service.
type front struct {
	uid   types.UID
	ip    string
	ports map[int32]*frontPort
}

type frontPort struct {
	listener net.Listener
	backends atomic.Pointer[[]string]
	turn     atomic.Uint64
}

// How long a Service waits that could not be served, first and at most.
const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = time.Second
)

func newBalancer(c *Cluster, f informers.SharedInformerFactory, r record.EventRecorder) *balancer {
	services, slices := f.Core().V1().Services(), f.Discovery().V1().EndpointSlices()
	b := &balancer{
		c: c, services: services.Lister(), slices: slices.Lister(), recorder: r, fronts: map[string]*front{},
		synced: []cache.InformerSynced{services.Informer().HasSynced, slices.Informer().HasSynced},
		// Not the default, whose tries share ten tokens a second: Services of many stacks that come
		// and go at once would wait for minutes.
		queue: workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, lastRetry)),
	}
	handle := func(key func(any) string) cache.ResourceEventHandler {
		return cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { b.queue.Add(key(o)) },
			UpdateFunc: func(_, o any) { b.queue.Add(key(o)) },
			DeleteFunc: func(o any) { b.queue.Add(key(o)) },
		}
	}
	byName := func(o any) string {
		key, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(o)
		return key
	}
	byService := func(o any) string {
		if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = gone.Obj
		}
		s, ok := o.(*discoveryv1.EndpointSlice)
		if !ok {
			return ""
		}
		return s.Namespace + "/" + s.Labels[discoveryv1.LabelServiceName]
	}
	// Handlers are refused by stopped informers only; these have not been started.
	_, _ = services.Informer().AddEventHandler(handle(byName))
	_, _ = slices.Informer().AddEventHandler(handle(byService))
	return b
}

func (b *balancer) run(ctx context.Context) {
	if !cache.WaitForCacheSync(ctx.Done(), b.synced...) {
		return
	}
	go func() {
		<-ctx.Done()
		b.queue.ShutDown()
	}()
	for {
		key, down := b.queue.Get()
		if down {
			break
		}
		if err := b.sync(ctx, key); err != nil && ctx.Err() == nil {
			b.queue.AddRateLimited(key)
		} else {
			b.queue.Forget(key)
		}
		b.queue.Done(key)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.fronts {
		b.closeLocked(key)
	}
}

func (b *balancer) sync(ctx context.Context, key string) error {
	namespace, name, err := cache.SplitMetaNamespaceKey(key)
	if err != nil || name == "" {
		return nil
	}
	s, err := b.services.Services(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.fronts[key]
	gone := s == nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer || s.DeletionTimestamp != nil
	if f != nil && (gone || f.uid != s.UID) {
		b.closeLocked(key)
		b.c.state.releaseIngress(string(f.uid))
		f = nil
	}
	if gone {
		return b.withdraw(ctx, s)
	}
	if f == nil {
		f = &front{uid: s.UID, ports: map[int32]*frontPort{}}
		if f.ip, err = b.c.state.ingressAddress(string(s.UID)); err != nil {
			b.recorder.Event(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", err.Error())
			return err
		}
		b.fronts[key] = f
	}
	if err := b.listen(f, s); err != nil {
		b.recorder.Event(s, corev1.EventTypeWarning, "SyncLoadBalancerFailed", err.Error())
		return err
	}
	if err := b.point(f, s); err != nil {
		return err
	}
	return b.announce(ctx, s, []corev1.LoadBalancerIngress{{IP: f.ip}})
}

// withdraw takes the address off a Service that no longer asks for one.
func (b *balancer) withdraw(ctx context.Context, s *corev1.Service) error {
	if s == nil || s.DeletionTimestamp != nil {
		return nil
	}
	return b.announce(ctx, s, nil)
}

func (b *balancer) announce(ctx context.Context, s *corev1.Service, ingress []corev1.LoadBalancerIngress) error {
	live := s.Status.LoadBalancer.Ingress
	if len(live) == len(ingress) && (len(live) == 0 || live[0].IP == ingress[0].IP) {
		return nil
	}
	next := s.DeepCopy()
	next.Status.LoadBalancer.Ingress = ingress
	_, err := b.c.client.CoreV1().Services(s.Namespace).UpdateStatus(ctx, next, metav1.UpdateOptions{})
	if err == nil && len(ingress) > 0 {
		b.recorder.Event(s, corev1.EventTypeNormal, "EnsuredLoadBalancer", "Ensured load balancer")
	}
	return err
}

// listen opens what the Service has and closes what it no longer has.
func (b *balancer) listen(f *front, s *corev1.Service) error {
	want := map[int32]bool{}
	for _, p := range s.Spec.Ports {
		if p.Protocol != "" && p.Protocol != corev1.ProtocolTCP {
			return fmt.Errorf("port %d: the sandbox balances TCP only", p.Port)
		}
		want[p.Port] = true
		if f.ports[p.Port] != nil {
			continue
		}
		l, err := net.Listen("tcp4", net.JoinHostPort(f.ip, strconv.Itoa(int(p.Port))))
		switch {
		case errors.Is(err, syscall.EACCES):
			return fmt.Errorf("port %d is below 1024 and the sandbox has no privilege for it: set clusters[].frontEnd.port to 1024 or more", p.Port)
		case err != nil:
			return fmt.Errorf("listen on port %d: %w", p.Port, err)
		}
		fp := &frontPort{listener: l}
		f.ports[p.Port] = fp
		go fp.serve()
	}
	for port, fp := range f.ports {
		if !want[port] {
			fp.listener.Close()
			delete(f.ports, port)
		}
	}
	return nil
}

// point sets the backends of each port: the ready endpoints of the Service's slices.
func (b *balancer) point(f *front, s *corev1.Service) error {
	list, err := b.slices.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil {
		return err
	}
	for _, p := range s.Spec.Ports {
		var backends []string
		for _, slice := range list {
			for _, port := range slice.Ports {
				if port.Port == nil || portName(port) != p.Name {
					continue
				}
				for _, e := range slice.Endpoints {
					if e.Conditions.Ready == nil || *e.Conditions.Ready {
						backends = append(backends, net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*port.Port))))
					}
				}
			}
		}
		fp := f.ports[p.Port]
		if old := fp.backends.Load(); old == nil || !reflect.DeepEqual(*old, backends) {
			fp.backends.Store(&backends)
		}
	}
	return nil
}

// portName is the Service port's; one that has none may come without the field.
func portName(p discoveryv1.EndpointPort) string {
	if p.Name == nil {
		return ""
	}
	return *p.Name
}

func (b *balancer) closeLocked(key string) {
	for _, p := range b.fronts[key].ports {
		p.listener.Close()
	}
	delete(b.fronts, key)
}

// backendTimeout is for a connection within one machine.
const backendTimeout = 2 * time.Second

func (p *frontPort) serve() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go p.carry(conn)
	}
}

// carry tries each backend once, beginning with the one whose turn it is.
func (p *frontPort) carry(conn net.Conn) {
	backends := p.backends.Load()
	if backends != nil && len(*backends) > 0 {
		first := p.turn.Add(1)
		for i := range uint64(len(*backends)) {
			to, err := net.DialTimeout("tcp4", (*backends)[(first+i)%uint64(len(*backends))], backendTimeout)
			if err == nil {
				kubelet.Splice(conn, to)
				return
			}
		}
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // as a port does on which nobody listens
	}
	conn.Close()
}
