package kube

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

const (
	// labelPool is on every node of AKS: its node pool.
	labelPool = "kubernetes.azure.com/agentpool"
	// cordoned is the annotation of a node that Drain has cordoned. What somebody else has
	// cordoned stays so.
	cordoned = "amlaks.io/cordoned"
	// moved is the annotation of a pod template by which Drain makes a Deployment have its
	// replicas elsewhere: the name of the ReplicaSet that had them on nodes that go.
	moved = "amlaks.io/moved"
	// nodesManager is the field manager of what Nodes writes.
	nodesManager = "amlaks-drain"
	// lookEvery is how often nodes and pods are looked at.
	lookEvery = 2 * time.Second
	// pageOf is how many objects a list asks for at a time.
	pageOf = 500
)

// Nodes empties the nodes of AKS node pools. Its methods may be called from many goroutines,
// and each may be repeated: what it has done is on the nodes and pods alone.
type Nodes struct {
	stack    string
	readOnly bool
	every    time.Duration

	mu      sync.Mutex
	clients map[string]*client // by kubeconfig
}

// NewNodes is for one run over a stack, whose Deployments move without a gap. A read-only one
// refuses every request that could change something.
func NewNodes(stack string, readOnly bool) *Nodes {
	return &Nodes{stack: stack, readOnly: readOnly, every: lookEvery, clients: map[string]*client{}}
}

func (n *Nodes) client(kubeconfig string) (*client, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.clients[kubeconfig]; c != nil {
		return c, nil
	}
	c, err := newClient(kubeconfig, n.readOnly, nil)
	if err == nil {
		n.clients[kubeconfig] = c
	}
	return c, err
}

// WaitReady returns when the pool has count nodes that are Ready and take pods. A cordon of
// Drain's is taken off them: the pool stays after all.
func (n *Nodes) WaitReady(ctx context.Context, kubeconfig, pool string, count int, progress func(string)) error {
	c, err := n.client(kubeconfig)
	if err != nil {
		return err
	}
	say := changes(progress)
	for {
		all, err := c.nodesOf(ctx, []string{pool})
		if err != nil {
			return explain("list nodes", err)
		}
		ready := 0
		for i := range all {
			node := &all[i]
			if node.Spec.Unschedulable && node.Annotations[cordoned] != "" {
				if err := c.cordon(ctx, node.Name, false); err != nil {
					return err
				}
				node.Spec.Unschedulable = false
			}
			if !node.Spec.Unschedulable && isReady(node) {
				ready++
			}
		}
		if ready >= count {
			return nil
		}
		status := fmt.Sprintf("%d of the %d nodes of pool %s are ready", ready, count, pool)
		say("waiting for nodes: " + status)
		if err := retry.Pause(ctx, n.every); err != nil {
			return &reconcile.Failure{
				Reason: reconcile.ReasonNotHealthy, Err: errors.New(status),
				Hint: "kubectl get nodes -l " + labelPool + "=" + pool + " shows them; run apply again when they are, and it goes on",
			}
		}
	}
}

// Drained tells how many of the pools' nodes are cordoned and empty. It only reads.
func (n *Nodes) Drained(ctx context.Context, kubeconfig string, pools []string) (done, all int, err error) {
	c, err := n.client(kubeconfig)
	if err != nil {
		return 0, 0, err
	}
	nodes, err := c.nodesOf(ctx, pools)
	if err != nil {
		return 0, 0, explain("list nodes", err)
	}
	for i := range nodes {
		if !nodes[i].Spec.Unschedulable {
			continue
		}
		pods, err := c.podsOn(ctx, nodes[i].Name)
		if err != nil {
			return 0, 0, explain("list pods", err)
		}
		if len(pods) == 0 {
			done++
		}
	}
	return done, len(nodes), nil
}

// nodesOf lists the nodes of pools.
func (c *client) nodesOf(ctx context.Context, pools []string) ([]corev1.Node, error) {
	var all []corev1.Node
	for _, pool := range pools {
		options := metav1.ListOptions{LabelSelector: labelPool + "=" + pool, Limit: pageOf}
		for {
			page, err := c.typed.CoreV1().Nodes().List(ctx, options)
			if err != nil {
				return nil, err
			}
			all = append(all, page.Items...)
			if options.Continue = page.Continue; options.Continue == "" {
				break
			}
		}
	}
	return all, nil
}

// podsOn lists the pods of a node that have to be somewhere else before it goes: those of
// DaemonSets, of the node itself and those that have ended go with it.
func (c *client) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	var all []corev1.Pod
	options := metav1.ListOptions{FieldSelector: "spec.nodeName=" + node, Limit: pageOf}
	for {
		page, err := c.typed.CoreV1().Pods("").List(ctx, options)
		if err != nil {
			return nil, err
		}
		for _, pod := range page.Items {
			controller := metav1.GetControllerOf(&pod)
			switch {
			case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
			case controller != nil && controller.Kind == "DaemonSet":
			case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
			default:
				all = append(all, pod)
			}
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return all, nil
		}
	}
}

// cordon keeps new pods off a node, or lets them on it again.
func (c *client) cordon(ctx context.Context, node string, off bool) error {
	patch := `{"metadata":{"annotations":{"` + cordoned + `":"true"}},"spec":{"unschedulable":true}}`
	if !off {
		patch = `{"metadata":{"annotations":{"` + cordoned + `":null}},"spec":{"unschedulable":null}}`
	}
	_, err := c.typed.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: nodesManager})
	if err != nil {
		return explain("cordon node "+node, err)
	}
	return nil
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// changes says what is not what it said last.
func changes(say func(string)) func(string) {
	last := ""
	return func(message string) {
		if message != last {
			last = message
			say(message)
		}
	}
}
