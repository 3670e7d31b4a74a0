// Package kubelet does what the kubelet does for the pods of the sandbox's
// nodes: it runs their containers as isolated processes, probes them, keeps
// their volumes and logs, and says how they are. It implements virtual-kubelet's
// PodLifecycleHandler and PodNotifier, once for all nodes.
//
// A pod has the network that package isolate gives it, a loopback of its own;
// its declared ports are reached at its address through forwarders. A pod
// that is given a service account's token is one that talks to the API server
// and to other pods: it runs in the machine's network and must listen on its
// own address (status.podIP), as its neighbours have the same ports.
//
// Not done: CPU and memory limits, exec, attach, port-forward, exec probes,
// init containers that go on running (sidecars).
package kubelet

import (
	"context"
	"os"
	"path/filepath"
	"sync"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/images"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// Config is what a Provider needs of its cluster.
type Config struct {
	// Dir holds a folder for each pod, named by its UID.
	Dir    string
	Client kubernetes.Interface
	Images *images.Store
	Start  isolate.Starter
	// Pods lists what the API server has of the nodes' pods.
	Pods     listers.PodLister
	Recorder record.EventRecorder
	// Address gives the loopback address of the pod with this UID; Release takes it back.
	Address func(uid string) (string, error)
	Release func(uid string)
	// HostIP is the nodes' address.
	HostIP string
	// APIServer is the host and port that pods are told.
	APIServerHost, APIServerPort string
}

// Provider runs pods.
type Provider struct {
	Config

	mu     sync.Mutex
	pods   map[types.UID]*workload
	notify func(*corev1.Pod)
	closed bool
}

// New returns a Provider without pods.
func New(c Config) *Provider {
	return &Provider{Config: c, pods: map[types.UID]*workload{}, notify: func(*corev1.Pod) {}}
}

// CreatePod starts the pod; what goes wrong later is in its status.
func (p *Provider) CreatePod(_ context.Context, pod *corev1.Pod) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.pods[pod.UID] != nil {
		return nil
	}
	w := newWorkload(p, pod)
	p.pods[pod.UID] = w
	go w.run()
	return nil
}

// UpdatePod takes over labels, annotations and the like; containers that run go on.
func (p *Provider) UpdatePod(_ context.Context, pod *corev1.Pod) error {
	if w := p.find(pod.Namespace, pod.Name, pod.UID); w != nil {
		w.update(pod)
	}
	return nil
}

// DeletePod begins the pod's termination. The pod is deleted from the API
// server when its containers have ended.
func (p *Provider) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	w := p.find(pod.Namespace, pod.Name, pod.UID)
	if w == nil {
		// Nothing of it runs, after a restart for instance.
		p.deleteObject(ctx, pod)
		return errdefs.NotFoundf("pod %s/%s is not here", pod.Namespace, pod.Name)
	}
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		grace = *pod.Spec.TerminationGracePeriodSeconds
	}
	if pod.DeletionGracePeriodSeconds != nil {
		grace = *pod.DeletionGracePeriodSeconds
	}
	w.terminate(grace)
	return nil
}

// GetPod gives the pod as it is, or a NotFound of errdefs.
func (p *Provider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	// A new pod may have the name of one that is still ending; the caller means
	// the one that the API server has.
	var uid types.UID
	if pod, err := p.Pods.Pods(namespace).Get(name); err == nil {
		uid = pod.UID
	}
	w := p.find(namespace, name, uid)
	if w == nil {
		return nil, errdefs.NotFoundf("pod %s/%s is not here", namespace, name)
	}
	return w.snapshot(), nil
}

// GetPodStatus is GetPod's status.
func (p *Provider) GetPodStatus(ctx context.Context, namespace, name string) (*corev1.PodStatus, error) {
	pod, err := p.GetPod(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	return &pod.Status, nil
}

// GetPods gives all pods.
func (p *Provider) GetPods(context.Context) ([]*corev1.Pod, error) {
	var out []*corev1.Pod
	for _, w := range p.all() {
		out = append(out, w.snapshot())
	}
	return out, nil
}

// NotifyPods sets who is told of each change of a pod's status.
func (p *Provider) NotifyPods(_ context.Context, notify func(*corev1.Pod)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = notify
}

// Ping says that the node is alive.
func (p *Provider) Ping(context.Context) error { return nil }

// Refresh writes anew what volumes show of a Secret or ConfigMap.
func (p *Provider) Refresh(kind, namespace, name string) {
	for _, w := range p.all() {
		if w.uses(kind, namespace, name) {
			w.refreshVolumes()
		}
	}
}

// End ends a node's pods at once and waits for them.
func (p *Provider) End(node string) {
	for _, w := range p.all() {
		if w.snapshot().Spec.NodeName == node {
			w.terminate(0)
			<-w.done
		}
	}
}

// Close ends all processes at once and leaves what the API server has of the
// pods as it is: they are run again by the next Provider.
func (p *Provider) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	var all sync.WaitGroup
	for _, w := range p.all() {
		all.Go(w.abandon)
	}
	all.Wait()
}

// Sweep removes the folders of pods that are no more.
func (p *Provider) Sweep(keep map[string]bool) {
	entries, err := os.ReadDir(p.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !keep[e.Name()] {
			_ = os.RemoveAll(filepath.Join(p.Dir, e.Name()))
		}
	}
}

func (p *Provider) all() []*workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*workload
	for _, w := range p.pods {
		out = append(out, w)
	}
	return out
}

// find gives the pod with the UID, or, without a UID, one with the name.
func (p *Provider) find(namespace, name string, uid types.UID) *workload {
	p.mu.Lock()
	defer p.mu.Unlock()
	if uid != "" {
		return p.pods[uid]
	}
	for _, w := range p.pods {
		if w.namespace == namespace && w.name == name {
			return w
		}
	}
	return nil
}

func (p *Provider) forget(w *workload) {
	p.mu.Lock()
	delete(p.pods, w.uid)
	p.mu.Unlock()
	p.Release(string(w.uid))
	_ = os.RemoveAll(w.dir)
}

func (p *Provider) tell(pod *corev1.Pod) {
	// Of a pod that is gone nobody wants to know, and the controller would wait for it.
	if live, err := p.Pods.Pods(pod.Namespace).Get(pod.Name); err != nil || live.UID != pod.UID {
		return
	}
	p.mu.Lock()
	notify := p.notify
	p.mu.Unlock()
	notify(pod)
}
