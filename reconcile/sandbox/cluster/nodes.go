package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/virtual-kubelet/virtual-kubelet/node"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/hollow"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/images"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/kubelet"
)

// nodes are the cluster's nodes, one provider that runs the pods of all of
// them, and the kubelet endpoint that all of them name.
type nodes struct {
	c        *Cluster
	provider provider
	server   *http.Server
	events   record.EventBroadcaster
	balancer *balancer
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu   sync.Mutex
	each map[string]*runningNode
}

// provider is what is behind the nodes: processes, or nothing.
type provider interface {
	node.PodLifecycleHandler
	node.PodNotifier
	// Handler answers the API server as a kubelet does.
	Handler() http.Handler
	// Refresh writes anew what volumes show of a Secret or ConfigMap.
	Refresh(kind, namespace, name string)
	// End ends a node's pods at once.
	End(node string)
	// Close ends all pods and leaves their objects as they are.
	Close()
	// Sweep removes what is left of pods other than those with these UIDs.
	Sweep(keep map[string]bool)
}

type runningNode struct {
	cancel context.CancelFunc
	done   <-chan struct{}
	ready  <-chan struct{}
	err    func() error
}

// podWorkers is how many pods are looked at at once; none of it takes long.
const podWorkers = 8

func startNodes(ctx context.Context, c *Cluster) (_ *nodes, err error) {
	n := &nodes{c: c, each: map[string]*runningNode{}, events: record.NewBroadcaster(record.WithContext(context.WithoutCancel(ctx)))}
	n.ctx, n.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	n.events.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: c.client.CoreV1().Events("")})
	recorder := n.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet"})

	bound := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermNotEqualSelector("spec.nodeName", "").String()
	}))
	pods := bound.Core().V1().Pods()
	all := informers.NewSharedInformerFactory(c.client, 0)
	if n.provider, err = c.provider(pods.Lister(), recorder); err != nil {
		return nil, err
	}
	if err := n.serve(); err != nil {
		return nil, err
	}
	// What volumes show follows its object.
	for kind, informer := range map[string]cache.SharedIndexInformer{
		"Secret": all.Core().V1().Secrets().Informer(), "ConfigMap": all.Core().V1().ConfigMaps().Informer(),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, o any) {
			if m, ok := o.(metav1.Object); ok {
				go n.provider.Refresh(kind, m.GetNamespace(), m.GetName())
			}
		}}); err != nil {
			return nil, err
		}
	}
	controller, err := node.NewPodController(node.PodControllerConfig{
		PodClient:         podsGetter{c.client.CoreV1(), pods.Lister()},
		PodInformer:       pods,
		EventRecorder:     quiet{recorder},
		Provider:          n.provider,
		ConfigMapInformer: all.Core().V1().ConfigMaps(),
		SecretInformer:    all.Core().V1().Secrets(),
		ServiceInformer:   all.Core().V1().Services(),
		// The provider reads what the downward API needs when a container starts.
		SkipDownwardAPIResolution: true,
	})
	if err != nil {
		return nil, err
	}
	n.balancer = newBalancer(c, all, n.events.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "service-controller"}))
	bound.StartWithContext(n.ctx)
	all.StartWithContext(n.ctx)
	if !cache.WaitForCacheSync(n.ctx.Done(), pods.Informer().HasSynced) {
		return nil, errors.New("the nodes have been stopped")
	}
	if err := n.forgetGone(pods); err != nil {
		return nil, err
	}
	n.running.Go(func() {
		if err := controller.Run(n.ctx, podWorkers); err != nil && n.ctx.Err() == nil {
			c.logf("the pod controller ended: %v", err)
		}
	})
	n.running.Go(func() { n.balancer.run(n.ctx) })
	return n, nil
}

// provider makes what runs the pods.
func (c *Cluster) provider(pods listers.PodLister, recorder record.EventRecorder) (provider, error) {
	if c.hollow {
		return hollow.New(c.client, c.state.address()), nil
	}
	host, port, err := net.SplitHostPort(c.state.endpoint(portAPIServer))
	if err != nil {
		return nil, err
	}
	owner := -1
	if os.Geteuid() == 0 {
		owner = isolate.HostBase
	}
	return kubelet.New(kubelet.Config{
		Dir:      filepath.Join(c.dir, "pods"),
		Client:   c.client,
		Images:   &images.Store{Dir: filepath.Join(c.dir, "images"), Registry: c.registry, OwnerBase: owner},
		Start:    c.spawner.start,
		Pods:     pods,
		Recorder: recorder,
		Address:  c.state.podAddress, Release: c.state.releasePod,
		HostIP:        c.state.address(),
		APIServerHost: host, APIServerPort: port,
	}), nil
}

// forgetGone gives back addresses and folders of pods that were deleted while
// nothing ran.
func (n *nodes) forgetGone(pods interface {
	Informer() cache.SharedIndexInformer
}) error {
	keep := map[string]bool{}
	for _, o := range pods.Informer().GetStore().List() {
		keep[string(o.(*corev1.Pod).UID)] = true
	}
	services, err := n.c.client.CoreV1().Services("").List(n.ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, s := range services.Items {
		keep[string(s.UID)] = true
	}
	n.c.state.retain(keep)
	n.provider.Sweep(keep)
	return nil
}

// serve answers the API server, and nobody else, as the nodes' kubelet.
func (n *nodes) serve() error {
	p := n.c.pki
	cert, err := tls.LoadX509KeyPair(p.cert(certKubelet), p.key(certKubelet))
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(p.cert(certCA))
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	l, err := tls.Listen("tcp4", n.c.state.endpoint(portKubelet), &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		VerifyConnection: func(s tls.ConnectionState) error {
			if name := s.PeerCertificates[0].Subject.CommonName; name != certToKubelet {
				return fmt.Errorf("client %q is not the API server", name)
			}
			return nil
		},
	})
	if err != nil {
		return err
	}
	n.server = &http.Server{Handler: n.provider.Handler(), ReadHeaderTimeout: 10 * time.Second}
	n.running.Go(func() { _ = n.server.Serve(l) })
	return nil
}

func (n *nodes) stop() {
	n.cancel()
	if n.server != nil {
		n.server.Close()
	}
	if n.provider != nil {
		n.provider.Close()
	}
	n.running.Wait()
	n.events.Shutdown()
}

// nodesTimeout is for all nodes to become Ready.
const nodesTimeout = time.Minute

// SetPools makes the cluster's nodes those of the pools and waits until all of
// them are Ready. The pods of a node that goes are ended at once and its Node is deleted;
// their controllers make new ones elsewhere.
func (c *Cluster) SetPools(ctx context.Context, pools []Pool) error {
	n := c.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	want := map[string]*corev1.Node{}
	for _, p := range pools {
		for i := range p.Count {
			o, err := c.nodeObject(p, i)
			if err != nil {
				return err
			}
			want[o.Name] = o
		}
	}
	have, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, o := range have.Items {
		w := want[o.Name]
		// A pool of the same name and another VM size is other machines.
		if w != nil && w.Labels[corev1.LabelInstanceTypeStable] == o.Labels[corev1.LabelInstanceTypeStable] {
			continue
		}
		if err := n.remove(ctx, o.Name); err != nil {
			return fmt.Errorf("remove node %s: %w", o.Name, err)
		}
	}
	for name, o := range want {
		if r := n.each[name]; r != nil {
			if err := n.relabel(ctx, o); err != nil {
				return fmt.Errorf("update node %s: %w", name, err)
			}
			continue
		}
		if err := n.add(o); err != nil {
			return fmt.Errorf("add node %s: %w", name, err)
		}
	}
	deadline, cancel := context.WithTimeout(ctx, nodesTimeout)
	defer cancel()
	for name := range want {
		r := n.each[name]
		select {
		case <-r.ready:
		case <-r.done:
			delete(n.each, name)
			return fmt.Errorf("node %s ended: %w", name, r.err())
		case <-deadline.Done():
			return fmt.Errorf("node %s is not ready: %w", name, deadline.Err())
		}
	}
	return nil
}

// add runs a node: its object, its status and its lease.
func (n *nodes) add(o *corev1.Node) error {
	controller, err := node.NewNodeController(node.NaiveNodeProvider{}, o, n.c.client.CoreV1().Nodes(),
		node.WithNodeEnableLeaseV1(n.c.client.CoordinationV1().Leases(corev1.NamespaceNodeLease), node.DefaultLeaseDuration))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(n.ctx)
	n.each[o.Name] = &runningNode{cancel, controller.Done(), controller.Ready(), controller.Err}
	n.running.Go(func() {
		if err := controller.Run(ctx); err != nil && ctx.Err() == nil {
			n.c.logf("node %s ended: %v", o.Name, err)
		}
	})
	return nil
}

// relabel carries labels and taints of the pool over to a node that is there.
func (n *nodes) relabel(ctx context.Context, want *corev1.Node) error {
	o, err := n.c.client.CoreV1().Nodes().Get(ctx, want.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	own := slices.DeleteFunc(slices.Clone(o.Spec.Taints), func(t corev1.Taint) bool { return systemTaint(t) })
	changed := !slices.EqualFunc(own, want.Spec.Taints, func(a, b corev1.Taint) bool { return a.ToString() == b.ToString() })
	for k, v := range want.Labels {
		if o.Labels[k] != v {
			o.Labels[k], changed = v, true
		}
	}
	if !changed {
		return nil
	}
	kept := slices.DeleteFunc(o.Spec.Taints, func(t corev1.Taint) bool { return !systemTaint(t) })
	o.Spec.Taints = append(kept, want.Spec.Taints...)
	_, err = n.c.client.CoreV1().Nodes().Update(ctx, o, metav1.UpdateOptions{})
	return err
}

// systemTaint tells of one that Kubernetes itself puts on a node, as on a cordoned one.
func systemTaint(t corev1.Taint) bool { return strings.HasPrefix(t.Key, "node.kubernetes.io/") }

func (n *nodes) remove(ctx context.Context, name string) error {
	if r := n.each[name]; r != nil {
		r.cancel()
		<-r.done
		delete(n.each, name)
	}
	// The Node goes first: nothing new is scheduled to it.
	err := n.c.client.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	n.provider.End(name)
	pods, err := n.c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", name).String()})
	if err != nil {
		return err
	}
	for _, p := range pods.Items {
		err := n.c.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return err
		}
	}
	return nil
}

// parseTaint reads key=value:Effect or key:Effect.
func parseTaint(s string) (corev1.Taint, error) {
	rest, effect, ok := strings.Cut(s, ":")
	key, value, _ := strings.Cut(rest, "=")
	t := corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)}
	if !ok || key == "" || effect == "" {
		return t, fmt.Errorf("taint %s is not key=value:Effect", strconv.Quote(s))
	}
	return t, nil
}
