package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// workload is one pod here.
type workload struct {
	p               *Provider
	uid             types.UID
	namespace, name string
	dir             string
	done            chan struct{} // closed when nothing of it runs
	// spec is what the pod was created with, and what runs; nobody writes to it.
	spec *corev1.PodSpec

	// ctx ends when the pod is to end; kill when it is to end now.
	ctx    context.Context
	cancel context.CancelFunc
	kill   context.Context
	killer context.CancelFunc

	// volumes serializes the writing of volumes.
	volumes sync.Mutex

	mu         sync.Mutex
	pod        *corev1.Pod // as last updated; spec is what counts here
	ip         string
	hostNet    bool
	started    metav1.Time
	problem    string // why there is no pod to run containers in
	failed     bool   // an init container ended for good
	inits      []*container
	containers []*container
	box        *isolate.Pod
	grace      time.Duration
	deleting   bool
	abandoned  bool
}

func newWorkload(p *Provider, pod *corev1.Pod) *workload {
	pod = pod.DeepCopy() // its conditions are written to here, and the caller keeps it
	w := &workload{
		p: p, uid: pod.UID, namespace: pod.Namespace, name: pod.Name, pod: pod, spec: &pod.Spec,
		dir: filepath.Join(p.Dir, string(pod.UID)), done: make(chan struct{}), started: metav1.Now(),
		hostNet: pod.Spec.HostNetwork || hasToken(&pod.Spec),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.kill, w.killer = context.WithCancel(context.Background())
	if pod.Status.StartTime != nil {
		w.started = *pod.Status.StartTime
	}
	for i := range w.spec.InitContainers {
		w.inits = append(w.inits, newContainer(w, &w.spec.InitContainers[i], pod.Status.InitContainerStatuses, true))
	}
	for i := range w.spec.Containers {
		w.containers = append(w.containers, newContainer(w, &w.spec.Containers[i], pod.Status.ContainerStatuses, false))
	}
	return w
}

// hasToken says whether the pod is given a service account's token.
func hasToken(spec *corev1.PodSpec) bool {
	if a := spec.AutomountServiceAccountToken; a != nil && !*a {
		return false
	}
	for _, v := range spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ServiceAccountToken != nil {
				return true
			}
		}
	}
	return false
}

// podRetry is the pace at which a pod is tried that could not be set up.
const podRetry = 5 * time.Second

// run is the pod's whole life.
func (w *workload) run() {
	defer close(w.done)
	for w.ctx.Err() == nil {
		err := w.setUp()
		if err == nil {
			w.runContainers()
			break
		}
		w.set(func() { w.problem = err.Error() })
		w.event(corev1.EventTypeWarning, "FailedCreatePodSandBox", "%v", err)
		select {
		case <-w.ctx.Done():
		case <-time.After(podRetry):
		}
	}
	if w.ctx.Err() == nil {
		// All containers have ended for good; the object stays until it is deleted.
		w.close()
		<-w.ctx.Done()
	}
	w.close()
	w.mu.Lock()
	abandoned, pod := w.abandoned, w.pod
	w.mu.Unlock()
	if abandoned {
		return
	}
	w.publish()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w.p.deleteObject(ctx, pod)
	w.p.forget(w)
}

// setUp gives the pod its address, folder and namespaces.
func (w *workload) setUp() error {
	ip, err := w.p.Address(string(w.uid))
	if err != nil {
		return err
	}
	w.set(func() { w.ip = ip })
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return err
	}
	box, err := isolate.StartPod(w.p.Start, w.hostname(), w.hostNet)
	if err != nil {
		return err
	}
	w.set(func() { w.box, w.problem = box, "" })
	if w.hostNet {
		return nil
	}
	for _, port := range w.ports() {
		if err := w.forward(port); err != nil {
			w.close()
			return err
		}
	}
	return nil
}

func (w *workload) hostname() string {
	if w.spec.Hostname != "" {
		return w.spec.Hostname
	}
	return w.name[:min(len(w.name), 63)]
}

func (w *workload) close() {
	w.mu.Lock()
	box := w.box
	w.box = nil
	w.mu.Unlock()
	if box != nil {
		box.Close()
	}
}

func (w *workload) runContainers() {
	for _, c := range w.inits {
		if c.run(); w.ctx.Err() != nil {
			return
		}
		if !c.succeeded() {
			w.set(func() { w.failed = true })
			return
		}
	}
	go w.keepVolumes()
	var all sync.WaitGroup
	for _, c := range w.containers {
		all.Go(c.run)
	}
	all.Wait()
}

// set changes the workload under its lock and tells about it.
func (w *workload) set(change func()) {
	w.mu.Lock()
	change()
	w.mu.Unlock()
	w.publish()
}

func (w *workload) publish() {
	w.mu.Lock()
	quiet := w.abandoned
	w.mu.Unlock()
	if !quiet {
		w.p.tell(w.snapshot())
	}
}

func (w *workload) update(pod *corev1.Pod) {
	pod = pod.DeepCopy()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pod = pod
}

// terminate begins the end of the pod, with at most grace seconds for its containers.
// Called again, a shorter time counts.
func (w *workload) terminate(grace int64) {
	w.mu.Lock()
	d := time.Duration(grace) * time.Second
	if !w.deleting || d < w.grace {
		w.grace = d
		if w.deleting || d == 0 {
			time.AfterFunc(d, w.killer)
		}
	}
	w.deleting = true
	w.mu.Unlock()
	w.cancel()
}

func (w *workload) abandon() {
	w.mu.Lock()
	w.abandoned = true
	w.mu.Unlock()
	w.killer()
	w.cancel()
	<-w.done
}

func (w *workload) snapshot() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.pod.DeepCopy()
	pod.Status = w.status()
	// What is here is never being deleted; the object is, when it is gone.
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = nil, nil
	return pod
}

func (w *workload) event(kind, reason, format string, args ...any) {
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	w.p.Recorder.Eventf(pod, kind, reason, format, args...)
}

// deleteObject takes the pod off the API server, as the kubelet does when the
// last container has ended.
func (p *Provider) deleteObject(ctx context.Context, pod *corev1.Pod) {
	err := p.Client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64),
		Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && !errors.Is(err, context.Canceled) {
		p.Recorder.Event(pod, corev1.EventTypeWarning, "FailedDelete", fmt.Sprintf("delete the ended pod: %v", err))
	}
}
