package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// ownCluster is a stack that has nothing to do with a cluster of somebody else.
const ownCluster = stackHead + `clusters:
  - name: own
    purpose: DevTest
    agentCount: 1
    protect: false
    frontEnd: {expose: clusterIP}
`

// attachedToo is that stack when it uses one, in every way there is.
const attachedToo = ownCluster + `  - name: shared
    purpose: DevTest
    attach: {resourceGroup: ml-prod, clusterName: existing}
    attachToWorkspace: true
    frontEnd: {expose: clusterIP}
services:
  - name: churn
    cluster: shared
    models: [{name: churn, version: 1, path: ./model}]
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch}
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
`

const (
	theirGroup   = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/ml-prod/providers/"
	theirCluster = theirGroup + "Microsoft.ContainerService/managedClusters/existing"
	theirRoles   = theirGroup + "Microsoft.ContainerRegistry/registries/mlprod/providers/Microsoft.Authorization/roleAssignments"
	ourComputes  = theirGroup + "Microsoft.MachineLearningServices/workspaces/ml-prod/computes"
)

// TestDetach: a cluster that was attached and has left the file is, with --prune, as it was
// before: in Azure to the letter, and inside to the last object. Without --prune all of it stays.
func TestDetach(t *testing.T) {
	w := newWorld(t, func(o *sandbox.Options) { // each cluster has a control plane of its own
		o.Kubeconfig, o.HollowNodes, o.ControlplaneSource = nil, true, filepath.Join("..", "..", "testdata", "controlplane")
	})
	if err := w.CreateCluster(t.Context(), sandbox.ClusterRequest{Name: "existing"}); err != nil {
		t.Fatal(err)
	}
	if err := w.Overlay(theirCluster, map[string]any{"tags": map[string]any{"team": "risk"}, "properties": map[string]any{"newerThanTheSdk": "x"}}); err != nil {
		t.Fatal(err)
	}
	w.write("amlaks.yaml", ownCluster)
	w.must(exitOK, "apply", "--yes")
	before := w.theirs()
	w.write("amlaks.yaml", attachedToo)
	w.must(exitOK, "apply", "--yes")
	attached := w.theirs()
	for what := range before {
		if cmp.Equal(before[what], attached[what]) {
			t.Errorf("attaching has changed nothing of the %s", what)
		}
	}
	w.write("amlaks.yaml", ownCluster)
	w.must(exitOK, "apply", "--yes")
	if diff := cmp.Diff(attached, w.theirs()); diff != "" {
		t.Errorf("without --prune (-before +after):\n%s", diff)
	}
	w.must(exitOK, "apply", "--yes", "--prune")
	w.eventually("the namespace is gone", func(context.Context) (bool, error) {
		return cmp.Equal(before["objects"], w.theirs()["objects"]), nil
	})
	if diff := cmp.Diff(before, w.theirs()); diff != "" {
		t.Errorf("detached (-before +after):\n%s", diff)
	}
	w.must(exitOK, "plan", "--prune", "--detailed-exitcode")
}

// theirs is all that attaching could change: the cluster in Azure, the objects in it, who has
// a role on the registry, and the workspace's computes.
func (w *world) theirs() map[string]any {
	w.t.Helper()
	out := map[string]any{"objects": w.objects()}
	for what, id := range map[string]string{"cluster": theirCluster, "roles": theirRoles, "computes": ourComputes} {
		var answer map[string]any
		w.get(w.ARMEndpoint()+id+"?api-version=2025-02-01", &answer)
		forget(answer, "eTag")
		out[what] = answer
	}
	return out
}

// objects are those of their cluster, by kind and name. What Kubernetes writes for itself all
// the time is left out.
func (w *world) objects() []string {
	w.t.Helper()
	config := w.admin(theirCluster)
	finder, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		w.t.Fatal(err)
	}
	lists, err := finder.ServerPreferredResources()
	if err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, kind := range list.APIResources {
			if !slices.Contains(kind.Verbs, "list") || kind.Name == "events" || kind.Name == "leases" {
				continue
			}
			found, err := client.Resource(version.WithResource(kind.Name)).List(w.t.Context(), metav1.ListOptions{})
			if err != nil {
				w.t.Fatalf("list %s: %v", kind.Name, err)
			}
			for _, item := range found.Items {
				all = append(all, fmt.Sprintf("%s %s/%s", kind.Name, item.GetNamespace(), item.GetName()))
			}
		}
	}
	slices.Sort(all)
	return all
}

// admin is the way into a cluster that Azure gives to those who ask for its admin's.
func (w *world) admin(cluster string) *rest.Config {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.ARMEndpoint()+cluster+"/listClusterAdminCredential?api-version=2025-02-01", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		w.t.Fatal(err)
	}
	_, value, _ := strings.Cut(string(content), `"value":"`)
	value, _, _ = strings.Cut(value, `"`)
	kubeconfig, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		w.t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		w.t.Fatal(err)
	}
	config.QPS = -1
	return config
}
