package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
	"github.com/amlaks/amlaks/spec"
)

// judge asks the comparer and the API server the same question.
type judge struct {
	t      *testing.T
	driver *Driver
	client *client
}

// ask gives what the comparer says of an apply of want, and whether a dry-run of it changes
// anything. A refused dry-run changes something.
func (j judge) ask(o object, want map[string]any) (unchanged, changes bool) {
	j.t.Helper()
	for j.t.Context().Err() == nil {
		live, version := j.get(o)
		unchanged = j.driver.comparer.unchanged(live, want)
		result, err := j.client.apply(j.t.Context(), o, &unstructured.Unstructured{Object: want},
			metav1.ApplyOptions{FieldManager: manager, Force: true, DryRun: []string{metav1.DryRunAll}})
		if _, now := j.get(o); now != version {
			continue // a controller wrote to it in between
		}
		if err != nil {
			return unchanged, true
		}
		after, err := typed(o.kind, result)
		if err != nil {
			j.t.Fatal(err)
		}
		o.values = true // Secrets' data too
		return unchanged, cmp.Diff(shown(live, o), shown(after, o)) != ""
	}
	j.t.Fatal("it never stood still")
	return false, false
}

func (j judge) get(o object) (object runtime.Object, version string) {
	j.t.Helper()
	live, err := j.client.get(j.t.Context(), o.kind, o.namespace, o.name)
	if err != nil {
		j.t.Fatal(err)
	}
	metadata, err := meta.Accessor(live)
	if err != nil {
		j.t.Fatal(err)
	}
	return live, metadata.GetResourceVersion()
}

// TestUnchanged holds the comparer against server-side-apply dry-runs of a real API server: it
// must never call unchanged what an apply would change.
func TestUnchanged(t *testing.T) {
	binary, err := cluster.Binary(t.Context(), "", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	controlPlane, err := cluster.Start(t.Context(), cluster.Options{Dir: t.TempDir(), Name: "dev", Binary: binary, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controlPlane.Stop)
	t.Setenv("UNCHANGED_SECRET", "a value")
	stack := stackOf("churn")
	limit := 1.0
	stack.Services[0].Resources.CPULimit = &limit
	stack.Services[0].Inference.Secrets = map[string]spec.SecretRef{"TOKEN": {Env: "UNCHANGED_SECRET"}}
	stack.Clusters[0].FrontEnd.Expose = spec.ExposeLoadBalancer
	stack.Clusters[0].LoadBalancerType = spec.InternalLoadBalancer
	r := start(t, string(controlPlane.Kubeconfig()), stack, false)
	resources := map[objectKey]reconcile.Resource{}
	c, err := r.driver.client(string(controlPlane.Kubeconfig()))
	if err != nil {
		t.Fatal(err)
	}
	j := judge{t, r.driver, c}
	var objects []object
	for _, resource := range r.resources {
		o, ok := resource.Spec.(object)
		if !ok {
			continue
		}
		text := mustJSON(t, resource.Desired)
		for _, ref := range []reconcile.Ref{r.driver.wiring.Image("", ""), r.driver.wiring.FrontEndImage} {
			text = strings.ReplaceAll(text, mustJSON(t, ref), `"`+image+`"`)
		}
		var want map[string]any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		resource.Desired = want
		resources[o.key()] = resource
		objects = append(objects, o)
		if _, err := c.apply(t.Context(), o, &unstructured.Unstructured{Object: want}, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("what was applied is unchanged", func(t *testing.T) {
		for _, o := range objects {
			if unchanged, changes := j.ask(o, resources[o.key()].Desired); !unchanged || changes {
				t.Errorf("%s: unchanged %v, a dry-run changes it: %v", o.address(), unchanged, changes)
			}
		}
	})

	deployment := object{cluster: "dev", kind: kindDeployment, namespace: "amlaks-churn", name: "churn"}
	t.Run("what others did", func(t *testing.T) {
		for _, test := range []struct {
			name, patch string
			kind        types.PatchType
			unchanged   bool
		}{
			{"an annotation of theirs", `{"metadata": {"annotations": {"a": "b"}}}`, types.MergePatchType, true},
			{"a label of theirs in the template", `{"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}`, types.MergePatchType, true},
			{"a variable of theirs", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "env": [{"name": "A", "value": "b"}]}]}}}}`, types.StrategicMergePatchType, true},
			{"a container of theirs", `{"spec": {"template": {"spec": {"containers": [{"name": "sidecar", "image": "example.com/sidecar"}]}}}}`, types.StrategicMergePatchType, true},
			{"a defaulted field", `{"spec": {"template": {"spec": {"dnsPolicy": "Default"}}}}`, types.MergePatchType, true},
			{"replicas", `{"spec": {"replicas": 1}}`, types.MergePatchType, false},
			{"one of our labels", `{"metadata": {"labels": {"amlaks.io/service": "other"}}}`, types.MergePatchType, false},
			{"one of our labels away", `{"metadata": {"labels": {"amlaks.io/service": null}}}`, types.MergePatchType, false},
			{"one of our variables", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "env": [{"name": "SERVICE_NAME", "value": "b"}]}]}}}}`, types.StrategicMergePatchType, false},
			{"one of our variables away", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "env": [{"name": "SERVICE_NAME", "$patch": "delete"}]}]}}}}`, types.StrategicMergePatchType, false},
			{"a quantity", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "resources": {"limits": {"cpu": "2"}}}]}}}}`, types.StrategicMergePatchType, false},
			{"the same quantity in other words", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "resources": {"limits": {"cpu": "1000m"}}}]}}}}`, types.StrategicMergePatchType, true},
			{"more in a list that is owned whole", `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "securityContext": {"capabilities": {"drop": ["ALL", "KILL"]}}}]}}}}`, types.StrategicMergePatchType, false},
			{"a variable twice", `[{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": {"name": "SERVICE_NAME", "value": "b"}}]`, types.JSONPatchType, false},
		} {
			t.Run(test.name, func(t *testing.T) {
				want := resources[deployment.key()].Desired
				if _, err := c.typed.AppsV1().Deployments(deployment.namespace).Patch(t.Context(), deployment.name, test.kind, []byte(test.patch), metav1.PatchOptions{FieldManager: "kubectl"}); err != nil {
					t.Fatal(err)
				}
				unchanged, changes := j.ask(deployment, want)
				if unchanged != test.unchanged || unchanged && changes {
					t.Errorf("unchanged %v, want %v; a dry-run changes it: %v", unchanged, test.unchanged, changes)
				}
				// Back to what it was, theirs included.
				background := metav1.DeletePropagationBackground
				if err := c.objects(kindDeployment, deployment.namespace).Delete(t.Context(), deployment.name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
					t.Fatal(err)
				}
				if _, err := c.apply(t.Context(), deployment, &unstructured.Unstructured{Object: want}, metav1.ApplyOptions{FieldManager: manager, Force: true}); err != nil {
					t.Fatal(err)
				}
			})
		}
	})

	t.Run("any change of what is sent", func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2))
		asked, changed := 0, 0
		for _, o := range objects {
			for range 25 {
				var want map[string]any
				if err := json.Unmarshal([]byte(mustJSON(t, resources[o.key()].Desired)), &want); err != nil {
					t.Fatal(err)
				}
				what := mutate(random, want)
				unchanged, changes := j.ask(o, want)
				if unchanged && changes {
					t.Errorf("%s: %s is called unchanged, and a dry-run changes it", o.address(), what)
				}
				asked++
				if changes {
					changed++
				}
			}
		}
		if changed < asked/4 || changed == asked {
			t.Errorf("%d of %d changes change anything: that tells nothing", changed, asked)
		}
	})
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// mutate changes one place of an object that is sent, and says what it did.
func mutate(random *rand.Rand, want map[string]any) string {
	path, at := "", any(want)
	for {
		switch v := at.(type) {
		case map[string]any:
			keys := slices.Sorted(maps.Keys(v))
			keys = slices.DeleteFunc(keys, func(key string) bool {
				return path == "" && (key == "apiVersion" || key == "kind") || path == ".metadata" && (key == "name" || key == "namespace")
			})
			if len(keys) == 0 {
				v["added"] = "x"
				return path + " added"
			}
			key := keys[random.IntN(len(keys))]
			below, isMap := v[key].(map[string]any)
			list, isList := v[key].([]any)
			switch {
			case random.IntN(8) == 0:
				delete(v, key)
				return path + "." + key + " removed"
			case isMap && len(below) > 0, isList && len(list) > 0:
				path, at = path+"."+key, v[key]
			default:
				v[key] = other(random, v[key])
				return fmt.Sprintf("%s.%s set to %v", path, key, v[key])
			}
		case []any:
			i := random.IntN(len(v))
			switch random.IntN(6) {
			case 0:
				v[0], v[len(v)-1] = v[len(v)-1], v[0]
				return path + " in another order"
			default:
				if _, ok := v[i].(map[string]any); !ok {
					v[i] = other(random, v[i])
					return fmt.Sprintf("%s[%d] set to %v", path, i, v[i])
				}
				path, at = fmt.Sprintf("%s[%d]", path, i), v[i]
			}
		}
	}
}

// other gives another value, or the same one in other words.
func other(random *rand.Rand, v any) any {
	switch v := v.(type) {
	case string:
		if random.IntN(3) > 0 {
			return v + "x"
		}
		return map[string]string{"100m": "0.1", "1": "1000m", "512Mi": "0.5Gi", "64Mi": "65536Ki", "ALL": "KILL", "/": "/ready"}[v]
	case float64:
		return v + float64(random.IntN(3))
	case bool:
		return random.IntN(2) == 0
	}
	return "x"
}
