package main

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// stackSmall and stackLarge differ in what AKS cannot change: to go from one to the other is a rotation.
const stackSmall = oneService

var stackLarge = strings.Replace(stackSmall, "purpose: DevTest", "purpose: DevTest\n    vmSize: Standard_D8ds_v5", 1)

// TestRotationKilledAnywhere kills amlaks with SIGKILL right after every request of a rotation
// that changes something, in Azure and in Kubernetes, whose nodes come and go with the pools.
// The same command, run again, ends it: one pool, no node that is cordoned, the service on the
// new nodes. With -short it is every third request.
func TestRotationKilledAnywhere(t *testing.T) {
	t.Parallel()
	k := &killer{writes: true}
	k.reset()
	w := newWorld(t, func(o *sandbox.Options) {
		o.Hook, o.Kubeconfig, o.HollowNodes = k.hook, nil, true
	})
	w.write("amlaks.yaml", stackSmall)
	w.must(exitOK, "apply", "--yes")
	client, err := kubernetes.NewForConfig(w.admin(theirGroup + "Microsoft.ContainerService/managedClusters/prod"))
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 3
	}
	stacks := []string{stackSmall, stackLarge}
	turn := 1
	for n := 1; ; n += step {
		w.write("amlaks.yaml", stacks[turn%2])
		k.reset()
		killed := k.strike(w, sandbox.After, n, "apply", "--yes")
		at := fmt.Sprintf("killed at %s %s %s", k.at.Service, k.at.Method, k.at.Path)
		if got := w.run("apply", "--yes"); got.code != exitOK {
			t.Fatalf("%s: the second run: exit code %d\n%s%s", at, got.code, got.stdout, got.stderr)
		}
		w.must(exitOK, "plan", "--detailed-exitcode")
		nodes, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if len(nodes.Items) != 1 || nodes.Items[0].Spec.Unschedulable {
			t.Fatalf("%s: %d nodes, the first is cordoned: %v", at, len(nodes.Items), nodes.Items[0].Spec.Unschedulable)
		}
		pods, err := client.CoreV1().Pods(w.namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp == nil && pod.Spec.NodeName != nodes.Items[0].Name {
				t.Errorf("%s: pod %s is on node %q", at, pod.Name, pod.Spec.NodeName)
			}
		}
		if !killed {
			t.Logf("a rotation has %d writes", n-1)
			if n < 4 {
				t.Errorf("which is too few")
			}
			return
		}
		turn++
	}
}
