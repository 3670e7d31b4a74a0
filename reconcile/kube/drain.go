package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// Drain cordons all nodes of the pools and returns when their pods are gone. Pods are evicted,
// so disruption budgets are honoured: what one does not allow is waited out, and said. The
// stack's own Deployments are rolled over instead, which has a successor Ready before a
// replica ends, so that a service with one replica keeps answering.
func (n *Nodes) Drain(ctx context.Context, kubeconfig string, pools []string, progress func(string)) error {
	c, err := n.client(kubeconfig)
	if err != nil {
		return err
	}
	d := drain{client: c, stack: n.stack, moved: map[string]bool{}}
	say := changes(progress)
	for {
		left, err := d.round(ctx, pools)
		if err != nil {
			return err
		}
		status := fmt.Sprintf("%d of the %d nodes of pool %s are empty", d.empty, d.nodes, strings.Join(pools, " and "))
		if len(d.blocked) > 0 {
			status += "; " + d.blocked[0]
		}
		if more := len(d.blocked) - 1; more > 0 {
			status += fmt.Sprintf("; so do %d more", more)
		}
		say(status)
		if len(left) == 0 {
			return nil
		}
		if err := retry.Pause(ctx, n.every); err != nil {
			why := fmt.Sprintf("pod %s is still there", left[0])
			if len(d.blocked) > 0 {
				why = d.blocked[0]
			}
			return &reconcile.Failure{
				Reason: reconcile.ReasonEvictionBlocked, Err: fmt.Errorf("%s; %d pods are left", why, len(left)),
				Hint: "let the disruption budget allow an eviction, or the workload have more replicas, and run apply again: it goes on from there; with the pool in the file as it was, it goes back",
			}
		}
	}
}

// drain is one call of Drain.
type drain struct {
	client *client
	stack  string
	moved  map[string]bool // Deployments that roll over, NAMESPACE/NAME of the ReplicaSet

	nodes, empty int
	blocked      []string // why pods stay, of the last round
}

// round looks at all nodes, sends away what can go, and names the pods that are left.
func (d *drain) round(ctx context.Context, pools []string) (left []string, err error) {
	nodes, err := d.client.nodesOf(ctx, pools)
	if err != nil {
		return nil, explain("list nodes", err)
	}
	d.nodes, d.empty, d.blocked = len(nodes), 0, nil
	var pods []corev1.Pod
	for i := range nodes {
		on, err := d.client.podsOn(ctx, nodes[i].Name)
		if err != nil {
			return nil, explain("list pods", err)
		}
		if len(on) == 0 {
			d.empty++
		}
		pods = append(pods, on...)
	}
	if err := orphans(pods); err != nil {
		return nil, err
	}
	for i := range nodes { // one that has appeared meanwhile too
		if nodes[i].Spec.Unschedulable {
			continue
		}
		if err := d.client.cordon(ctx, nodes[i].Name, true); err != nil {
			return nil, err
		}
	}
	for i := range pods {
		pod := &pods[i]
		left = append(left, pod.Namespace+"/"+pod.Name)
		if pod.DeletionTimestamp != nil {
			continue
		}
		rolls, err := d.roll(ctx, pod)
		if err != nil {
			return nil, err
		}
		switch {
		case rolls:
			d.blocked = append(d.blocked, fmt.Sprintf("pod %s stays until its Deployment has another Ready elsewhere", left[len(left)-1]))
		default:
			if err := d.evict(ctx, pod); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(d.blocked)
	return left, nil
}

// orphans refuses to end pods that nobody would make again, as kubectl drain does.
func orphans(pods []corev1.Pod) error {
	var names []string
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && metav1.GetControllerOf(&pods[i]) == nil {
			names = append(names, pods[i].Namespace+"/"+pods[i].Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return &reconcile.Failure{
		Reason: reconcile.ReasonEvictionBlocked,
		Err:    fmt.Errorf("nothing would make pod %s again elsewhere: it has no controller", strings.Join(names, ", ")),
		Hint:   "delete it, or give it a Deployment, and run apply again",
	}
}

// roll makes the pod's Deployment, if it is the stack's own, have its replicas elsewhere, and
// tells whether it does. A pod that does not answer yet is as well evicted.
func (d *drain) roll(ctx context.Context, pod *corev1.Pod) (bool, error) {
	owner := metav1.GetControllerOf(pod)
	if pod.Labels[LabelStack] != d.stack || pod.Namespace != Namespace(d.stack) || owner == nil || owner.Kind != "ReplicaSet" || !podReady(pod) {
		return false, nil
	}
	key := pod.Namespace + "/" + owner.Name
	if d.moved[key] {
		return true, nil
	}
	set, err := d.client.typed.AppsV1().ReplicaSets(pod.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil // and its pods go
	}
	if err != nil {
		return false, explain("read ReplicaSet "+key, err)
	}
	of := metav1.GetControllerOf(set)
	if of == nil || of.Kind != "Deployment" {
		return false, nil
	}
	deployment, err := d.client.typed.AppsV1().Deployments(pod.Namespace).Get(ctx, of.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, explain("read Deployment "+of.Name, err)
	}
	if deployment.Spec.Paused || deployment.Spec.Strategy.Type != appsv1.RollingUpdateDeploymentStrategyType {
		return false, nil
	}
	d.moved[key] = true
	if deployment.Spec.Template.Annotations[moved] == owner.Name {
		return true, nil // an earlier run has begun it
	}
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, moved, owner.Name)
	_, err = d.client.typed.AppsV1().Deployments(pod.Namespace).Patch(ctx, of.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: nodesManager})
	if err != nil {
		return false, explain("roll over Deployment "+of.Name, err)
	}
	return true, nil
}

func podReady(pod *corev1.Pod) bool {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// evict asks for the pod's end. What a budget does not allow now is asked again in the next round.
func (d *drain) evict(ctx context.Context, pod *corev1.Pod) error {
	// By hand, because client-go would sit out the ten seconds that the API server asks for,
	// ten times, and say nothing.
	err := d.client.typed.CoreV1().RESTClient().Post().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).SubResource("eviction").
		MaxRetries(0).Body(&policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pod.UID))},
	}).Do(ctx).Error()
	name := pod.Namespace + "/" + pod.Name
	switch {
	case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err): // gone, or another one by now
		return nil
	case apierrors.IsTooManyRequests(err), isBudget(err):
		d.blocked = append(d.blocked, fmt.Sprintf("pod %s has to stay for now: %s", name, budgetSays(err)))
		return nil
	}
	return explain("evict pod "+name, err)
}

// isBudget tells of the answer for a pod with several budgets, which is a 500.
func isBudget(err error) bool {
	return strings.Contains(err.Error(), "more than one PodDisruptionBudget")
}

// budgetSays is which budget it is, in the API server's words.
func budgetSays(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Type == policyv1.DisruptionBudgetCause && cause.Message != "" {
				return cause.Message
			}
		}
	}
	return err.Error()
}
