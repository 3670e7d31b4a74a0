// Package hollow is the kubelet of nodes that have no machine behind them: it says of every
// pod, at once, that it runs and is Ready, and runs nothing. Tests of interruption and of
// scale need pods that become Ready, not what is in them.
package hollow

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/virtual-kubelet/virtual-kubelet/errdefs"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// Provider implements virtual-kubelet's PodLifecycleHandler and PodNotifier.
type Provider struct {
	client kubernetes.Interface
	hostIP string

	mu     sync.Mutex
	pods   map[types.UID]*corev1.Pod
	count  int // of addresses given out
	notify func(*corev1.Pod)
}

// New returns a Provider without pods, for nodes at hostIP.
func New(client kubernetes.Interface, hostIP string) *Provider {
	return &Provider{client: client, hostIP: hostIP, pods: map[types.UID]*corev1.Pod{}, notify: func(*corev1.Pod) {}}
}

// CreatePod says that the pod is Ready.
func (p *Provider) CreatePod(_ context.Context, pod *corev1.Pod) error {
	p.mu.Lock()
	if p.pods[pod.UID] != nil {
		p.mu.Unlock()
		return nil
	}
	p.count++
	ready := pod.DeepCopy()
	// An address from a network that is nobody's here: nothing listens on it.
	ready.Status = status(ready, p.hostIP, fmt.Sprintf("10.%d.%d.%d", 128+p.count>>16&127, p.count>>8&255, p.count&255))
	p.pods[pod.UID] = ready
	notify := p.notify
	p.mu.Unlock()
	notify(ready.DeepCopy())
	return nil
}

func status(pod *corev1.Pod, hostIP, ip string) corev1.PodStatus {
	now := metav1.Now()
	s := corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: &now, QOSClass: pod.Status.QOSClass,
		HostIP: hostIP, HostIPs: []corev1.HostIP{{IP: hostIP}}, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
	}
	for _, kind := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, LastTransitionTime: now})
	}
	for _, c := range pod.Spec.InitContainers {
		s.InitContainerStatuses = append(s.InitContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true,
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: now, FinishedAt: now}},
		})
	}
	for _, c := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image, Ready: true, Started: new(true),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}},
		})
	}
	return s
}

// UpdatePod has nothing to do: nothing runs that could change.
func (p *Provider) UpdatePod(context.Context, *corev1.Pod) error { return nil }

// DeletePod takes the pod off the API server: there is nothing to wait for.
func (p *Provider) DeletePod(ctx context.Context, pod *corev1.Pod) error {
	p.mu.Lock()
	delete(p.pods, pod.UID)
	p.mu.Unlock()
	err := p.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another one by now
	}
	return err
}

// GetPod gives the pod as it is, or a NotFound of errdefs.
func (p *Provider) GetPod(_ context.Context, namespace, name string) (*corev1.Pod, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range p.pods {
		if pod.Namespace == namespace && pod.Name == name {
			return pod.DeepCopy(), nil
		}
	}
	return nil, errdefs.NotFoundf("pod %s/%s is not here", namespace, name)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	pods := make([]*corev1.Pod, 0, len(p.pods))
	for _, pod := range p.pods {
		pods = append(pods, pod.DeepCopy())
	}
	return pods, nil
}

// NotifyPods sets who is told of each pod's status.
func (p *Provider) NotifyPods(_ context.Context, notify func(*corev1.Pod)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notify = notify
}

// Handler is the part of the kubelet's API that the API server asks for: no pod has logs.
func (p *Provider) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// Refresh has nothing to do: no volume shows a Secret or ConfigMap.
func (p *Provider) Refresh(_, _, _ string) {}

// End forgets a node's pods.
func (p *Provider) End(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for uid, pod := range p.pods {
		if pod.Spec.NodeName == node {
			delete(p.pods, uid)
		}
	}
}

// Close has nothing to end.
func (p *Provider) Close() {}

// Sweep has nothing to remove.
func (p *Provider) Sweep(map[string]bool) {}
