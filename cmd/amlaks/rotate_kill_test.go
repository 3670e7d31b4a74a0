package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// stackSmall and stackLarge differ in what AKS cannot change: to go from one to the other is a rotation.
const stackSmall = stackHead + `clusters:
  - name: prod
    purpose: DevTest
    vmSize: Standard_D4ds_v5
    agentCount: 1
    frontEnd: {port: 8080}
    protect: false
services:
  - name: churn
    cluster: prod
    models: [{name: churn, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
`

var stackLarge = strings.Replace(stackSmall, "Standard_D4ds_v5", "Standard_D8ds_v5", 1)

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
	client := w.clientOf("prod")
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

// clientOf reaches the Kubernetes of a cluster as its admin does.
func (w *world) clientOf(cluster string) kubernetes.Interface {
	w.t.Helper()
	url := w.ARMEndpoint() + "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/" + sandbox.ResourceGroup +
		"/providers/Microsoft.ContainerService/managedClusters/" + cluster + "/listClusterAdminCredential?api-version=2025-02-01"
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	var answer struct{ Kubeconfigs []struct{ Value []byte } }
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&answer); err != nil || len(answer.Kubeconfigs) == 0 {
		w.t.Fatalf("the credentials of %s: HTTP %d, %v", cluster, response.StatusCode, err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(answer.Kubeconfigs[0].Value)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	return client
}
