package cluster

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"
)

// podsGetter is the pod client that virtual-kubelet's controller writes
// statuses with. The controller sends the provider's whole pod, and with it
// labels and conditions that may be old; here only the status is taken of it.
type podsGetter struct {
	typedcorev1.PodsGetter
	lister listers.PodLister
}

func (g podsGetter) Pods(namespace string) typedcorev1.PodInterface {
	return pods{g.PodsGetter.Pods(namespace), g.lister.Pods(namespace)}
}

type pods struct {
	typedcorev1.PodInterface
	lister listers.PodNamespaceLister
}

func (p pods) UpdateStatus(ctx context.Context, pod *corev1.Pod, o metav1.UpdateOptions) (*corev1.Pod, error) {
	live, err := p.lister.Get(pod.Name)
	if err != nil {
		return nil, err
	}
	if live.UID != pod.UID {
		return live, nil // of a pod that was here before
	}
	next := live.DeepCopy()
	next.Status = pod.Status
	next.Status.QOSClass = live.Status.QOSClass
	next.Status.ObservedGeneration = live.Generation
	// Conditions of others, PodScheduled for one, stay as they are.
	own := map[corev1.PodConditionType]bool{}
	for i := range next.Status.Conditions {
		own[next.Status.Conditions[i].Type] = true
	}
	for _, c := range live.Status.Conditions {
		if !own[c.Type] {
			next.Status.Conditions = append(next.Status.Conditions, c)
		}
	}
	if equality.Semantic.DeepEqual(live.Status, next.Status) {
		return live, nil
	}
	return p.PodInterface.UpdateStatus(ctx, next, o)
}

// quiet leaves out virtual-kubelet's own remarks on its success, which no
// real node makes.
type quiet struct{ record.EventRecorder }

func (q quiet) Event(o runtime.Object, kind, reason, message string) {
	if !strings.HasPrefix(reason, "Provider") || kind != corev1.EventTypeNormal {
		q.EventRecorder.Event(o, kind, reason, message)
	}
}
