package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// state is what a world holds, resource by resource, in a form in which two worlds in which
// the same has been done are equal: without names, times and numbers that are given out.
type state map[string]any

// stateOf reads ARM, the registry and the stack's namespace.
func stateOf(t *testing.T, w *world) state {
	t.Helper()
	s := state{}
	w.addARM(s)
	digests := w.addRegistry(s)
	w.addObjects(s)
	return s.plain(t, w, digests)
}

// given are names and numbers that Azure gives out: the same request gets another one each time.
var given = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// plain puts words where a world has names of its own.
func (s state) plain(t *testing.T, w *world, digests map[string]string) state {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	text := given.ReplaceAllString(string(data), "GIVEN")
	for _, digest := range slices.Sorted(maps.Keys(digests)) {
		text = strings.ReplaceAll(text, digest, digests[digest])
	}
	text = strings.ReplaceAll(text, w.Registry(), "REGISTRY")
	text = regexp.MustCompile(`\b`+w.stack+`\b`).ReplaceAllString(text, "STACK")
	var plain state
	if err := json.Unmarshal([]byte(text), &plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

// get asks a server of the sandbox for JSON.
func (w *world) get(url string, into any) http.Header {
	w.t.Helper()
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+w.Token())
	request.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %s", url, response.Status)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(into); err != nil {
		w.t.Fatalf("%s: %v", url, err)
	}
	return response.Header
}

// addARM adds the clusters with their pools.
func (w *world) addARM(s state) {
	w.t.Helper()
	const version = "?api-version=2025-02-01"
	subscription := w.ARMEndpoint() + "/subscriptions/00000000-0000-0000-0000-000000000000"
	list := func(url string) []map[string]any {
		var page struct{ Value []map[string]any }
		w.get(url+version, &page)
		for _, resource := range page.Value {
			forget(resource, "eTag", "etag", "systemData")
		}
		return page.Value
	}
	for _, cluster := range list(subscription + "/providers/Microsoft.ContainerService/managedClusters") {
		id := fmt.Sprint(cluster["id"])
		s[id] = cluster
		for _, pool := range list(w.ARMEndpoint() + id + "/agentPools") {
			s[fmt.Sprint(pool["id"])] = pool
		}
	}
}

// forget takes keys out of a JSON value, at any depth.
func forget(value any, keys ...string) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range keys {
			delete(value, key)
		}
		for _, inner := range value {
			forget(inner, keys...)
		}
	case []any:
		for _, inner := range value {
			forget(inner, keys...)
		}
	}
}

// addRegistry adds every tag with the layers of its image, and gives the images by digest. An
// image's own digest differs from world to world, as the stack's name is among its labels.
func (w *world) addRegistry(s state) (digests map[string]string) {
	w.t.Helper()
	digests = map[string]string{}
	v2 := "http://" + w.Registry() + "/v2/"
	var catalog struct{ Repositories []string }
	w.get(v2+"_catalog", &catalog)
	for _, repository := range catalog.Repositories {
		var list struct{ Tags []string }
		w.get(v2+repository+"/tags/list", &list)
		for _, tag := range list.Tags {
			var manifest struct{ Layers []any }
			digest := w.get(v2+repository+"/manifests/"+tag, &manifest).Get("Docker-Content-Digest")
			image := repository + ":" + tag
			s["image "+image] = manifest.Layers
			digests[digest] = image
		}
	}
	return digests
}

// addObjects adds what is in the stack's namespace, of all kinds that amlaks writes, and the
// namespace itself, but for what Kubernetes puts into every namespace.
func (w *world) addObjects(s state) {
	w.t.Helper()
	ctx, options := w.t.Context(), metav1.ListOptions{}
	add := func(kind string, list runtime.Object, err error) {
		if err != nil {
			w.t.Fatal(err)
		}
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(list)
		if err != nil {
			w.t.Fatal(err)
		}
		items, _ := content["items"].([]any) // nil when there are none
		for _, item := range items {
			object := unstructured.Unstructured{Object: item.(map[string]any)}
			name := object.GetName()
			if name == "kube-root-ca.crt" || kind == "ServiceAccount" && name == "default" || kind == "Namespace" && name != w.namespace {
				continue
			}
			s["kube "+kind+"/"+name] = owned(object.Object)
		}
	}
	core, apps, rbac := w.kube.CoreV1(), w.kube.AppsV1(), w.kube.RbacV1()
	namespaces, err := core.Namespaces().List(ctx, options)
	add("Namespace", namespaces, err)
	accounts, err := core.ServiceAccounts(w.namespace).List(ctx, options)
	add("ServiceAccount", accounts, err)
	roles, err := rbac.Roles(w.namespace).List(ctx, options)
	add("Role", roles, err)
	bindings, err := rbac.RoleBindings(w.namespace).List(ctx, options)
	add("RoleBinding", bindings, err)
	configMaps, err := core.ConfigMaps(w.namespace).List(ctx, options)
	add("ConfigMap", configMaps, err)
	secrets, err := core.Secrets(w.namespace).List(ctx, options)
	add("Secret", secrets, err)
	services, err := core.Services(w.namespace).List(ctx, options)
	add("Service", services, err)
	deployments, err := apps.Deployments(w.namespace).List(ctx, options)
	add("Deployment", deployments, err)
}

// owned is an object without its status and what the API server gives out.
func owned(object map[string]any) map[string]any {
	delete(object, "status")
	metadata, _ := object["metadata"].(map[string]any)
	for _, key := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp"} {
		delete(metadata, key)
	}
	forget(object, "clusterIP", "clusterIPs", "nodePort", "healthCheckNodePort")
	if data, ok := object["data"].(map[string]any); ok && object["type"] != nil { // a Secret
		for key := range data {
			data[key] = "(secret)"
		}
	}
	return object
}

// keysOf gives the values in the stack's keys Secrets, by Secret and key.
func (w *world) keysOf() map[string]string {
	w.t.Helper()
	secrets, err := w.kube.CoreV1().Secrets(w.namespace).List(w.t.Context(), metav1.ListOptions{LabelSelector: "amlaks.io/keys=true"})
	if err != nil {
		w.t.Fatal(err)
	}
	keys := map[string]string{}
	for _, secret := range secrets.Items {
		for name, value := range secret.Data {
			keys[secret.Name+"/"+name] = string(value)
		}
	}
	return keys
}
