package kube

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// pitfalls has the list "Pitfalls to encode as tests" (docs: plan, diff and apply
// algorithms) against a real API server; each name begins with the list's own words.
func pitfalls(t *testing.T, kubeconfig string) {
	admin, err := newClient(kubeconfig, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	for name, test := range map[string]func(*trap){
		"defaulted fields": defaultedFields,
		"defaulted fields, default depending on another field": dependentDefaults,
		"normalised strings, quantities 1 vs 1000m":            normalisedQuantities,
		"write-only secrets":                                   writeOnlySecrets,
		"list order and keyed lists, containers":               keyedContainers,
		"list order and keyed lists, ports with composite key": compositePorts,
		"list order and keyed lists, env order is significant": envOrder,
		"null vs absent vs zero vs empty map":                  nothings,
		"PUT≠GET payload":                                      sentIsNotRead,
		"eventual consistency after write":                     readAfterWrite,
		"transitional state":                                   transitional,
		"fields another actor owns":                            othersFields,
		"removed-from-spec field":                              removedFields,
		"create-time-only fields":                              createTimeOnly,
		"partial PUT that resets omitted fields":               othersSurviveAnUpdate,
		"webhook mutation":                                     mutation,
	} {
		t.Run(name, func(t *testing.T) {
			w := &trap{T: t, kubeconfig: kubeconfig, admin: admin, stack: stackOf("churn")}
			// A namespace of its own, which goes with the API server.
			made++
			w.stack.Name = fmt.Sprintf("trap%d", made)
			test(w)
		})
	}
}

func defaultedFields(w *trap) {
	w.converge()
	if d := w.deployment(); d.Spec.ProgressDeadlineSeconds == nil || d.Spec.Template.Spec.DNSPolicy == "" {
		w.Error("nothing was defaulted: the test tries nothing")
	}
	w.wantSteady(true)
}

// A Service's nodePorts depend on its type, and a container's requests on its limits.
func dependentDefaults(w *trap) {
	limit := 1.0
	w.service().Resources.CPULimit = &limit
	w.stack.Clusters[0].FrontEnd.Expose = spec.ExposeLoadBalancer
	w.converge()
	front := func() *corev1.Service {
		s, err := w.admin.typed.CoreV1().Services(Namespace(w.stack.Name)).Get(w.Context(), FrontEnd, metav1.GetOptions{})
		if err != nil {
			w.Fatal(err)
		}
		return s
	}
	if front().Spec.Ports[0].NodePort == 0 {
		w.Error("the load balancer has no nodePort: the test tries nothing")
	}
	w.wantSteady(true)
	w.stack.Clusters[0].FrontEnd.Expose = spec.ExposeClusterIP
	w.converge()
	if s := front(); s.Spec.Type != corev1.ServiceTypeClusterIP || s.Spec.Ports[0].NodePort != 0 {
		w.Errorf("type %s, nodePort %d", s.Spec.Type, s.Spec.Ports[0].NodePort)
	}
	w.wantSteady(true)
}

func normalisedQuantities(w *trap) {
	limit := 1.5
	w.service().Resources.CPU, w.service().Resources.MemoryInGB, w.service().Resources.MemoryInGBLimit = 1, 1, &limit
	w.converge()
	w.patch(types.StrategicMergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "resources":
		{"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"memory": "1610612736"}}}]}}}}`)
	w.wantSteady(false)
	w.patch(types.StrategicMergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "resources": {"requests": {"cpu": "1001m"}}}]}}}}`)
	want := []reconcile.FieldDiff{{Path: "spec.template.spec.containers[0].resources.requests.cpu", Before: "1001m", After: "1"}}
	if diff := cmp.Diff(want, w.diff()); diff != "" {
		w.Errorf("another quantity (-want +got):\n%s", diff)
	}
	w.converge()
	w.wantSteady(true)
}

func writeOnlySecrets(w *trap) {
	w.Setenv("PITFALL_PASSWORD", "not-to-be-seen")
	w.service().Inference.Secrets = map[string]spec.SecretRef{"PASSWORD": {Env: "PITFALL_PASSWORD"}}
	hidden := func(what string) {
		plan, err := json.Marshal(w.open().plan(w.T, reconcile.Options{}))
		if err != nil {
			w.Fatal(err)
		}
		for _, value := range []string{"not-to-be-seen", "another-value"} {
			if strings.Contains(string(plan), value) || strings.Contains(string(plan), base64.StdEncoding.EncodeToString([]byte(value))) {
				w.Errorf("%s: the plan shows the secret", what)
			}
		}
	}
	hidden("when it is made")
	w.converge()
	hidden("when it is there")
	w.wantSteady(true)
	keys, err := w.admin.typed.CoreV1().Secrets(Namespace(w.stack.Name)).Get(w.Context(), "churn-keys", metav1.GetOptions{})
	if err != nil || len(keys.Data) != 2 {
		w.Fatalf("keys: %v", err)
	}
	w.Setenv("PITFALL_PASSWORD", "another-value")
	hidden("when it changes")
	plan := w.open().plan(w.T, reconcile.Options{})
	if diff := cmp.Diff([]string{"update kube/dev/Secret/churn-env"}, pending(plan)); diff != "" {
		w.Errorf("a changed value (-want +got):\n%s", diff)
	}
	for _, key := range keys.Data {
		text, err := json.Marshal(plan)
		if err != nil || strings.Contains(string(text), string(key)) || strings.Contains(string(text), base64.StdEncoding.EncodeToString(key)) {
			w.Errorf("the plan shows a service's key (%v)", err)
		}
	}
	w.converge()
	w.wantSteady(true)
}

// A sidecar that somebody has put in front of ours is theirs, wherever it stands in the list.
func keyedContainers(w *trap) {
	w.converge()
	w.patch(types.JSONPatchType, `[{"op": "add", "path": "/spec/template/spec/containers/0", "value": {"name": "mesh", "image": "registry.example/mesh:1"}}]`)
	if got := w.deployment().Spec.Template.Spec.Containers[0].Name; got != "mesh" {
		w.Errorf("the first container is %s: the test tries nothing", got)
	}
	w.wantSteady(false)
	w.service().ScoringTimeoutMs = 30000
	w.converge()
	if got := len(w.deployment().Spec.Template.Spec.Containers); got != 2 {
		w.Errorf("%d containers after an update", got)
	}
	w.wantSteady(false)
}

// Ports are told apart by number and protocol together.
func compositePorts(w *trap) {
	w.converge()
	w.patch(types.JSONPatchType, `[{"op": "add", "path": "/spec/template/spec/containers/0/ports/0", "value": {"containerPort": 5001, "protocol": "UDP"}}]`)
	w.wantSteady(false)
	w.service().Inference.Port = 5002
	w.converge()
	got := map[string]int32{}
	for _, port := range w.container().Ports {
		got[string(port.Protocol)] = port.ContainerPort
	}
	if diff := cmp.Diff(map[string]int32{"UDP": 5001, "TCP": 5002}, got); diff != "" {
		w.Errorf("ports (-want +got):\n%s", diff)
	}
	w.wantSteady(false)
}

// $(A) in a variable is what A is if A stands before it.
func envOrder(w *trap) {
	w.service().Inference.EnvironmentVariables = map[string]string{"A_FIRST": "1", "B_SECOND": "$(A_FIRST)"}
	w.converge()
	names := func() []string {
		var names []string
		for _, v := range w.container().Env {
			names = append(names, v.Name)
		}
		return names
	}
	want := names()
	if !slices.IsSorted(want) {
		w.Errorf("the variables are not in order: %v", want)
	}
	reversed := slices.Clone(w.container().Env)
	slices.Reverse(reversed)
	value, err := json.Marshal(reversed)
	if err != nil {
		w.Fatal(err)
	}
	w.patch(types.JSONPatchType, `[{"op": "replace", "path": "/spec/template/spec/containers/0/env", "value": `+string(value)+`}]`)
	if slices.Equal(want, names()) {
		w.Error("nothing was reversed: the test tries nothing")
	}
	if len(w.diff()) == 0 {
		w.Error("the plan does not see that the order has changed")
	}
	w.converge()
	if diff := cmp.Diff(want, names()); diff != "" {
		w.Errorf("order (-want +got):\n%s", diff)
	}
	w.wantSteady(true)
}

func nothings(w *trap) {
	w.converge()
	w.patch(types.MergePatchType, `{"metadata": {"annotations": {}}, "spec": {"template": {"metadata": {"annotations": {}}, "spec": {"nodeSelector": {}, "tolerations": null}}}}`)
	// The file has a toleration, for its GPU: null has taken away something owned.
	if diff := w.diff(); len(diff) == 0 || !strings.HasPrefix(diff[0].Path, "spec.template.spec.tolerations") {
		w.Errorf("null where something is owned: %v", diff)
	}
	w.converge()
	w.wantSteady(false)
	w.patch(types.MergePatchType, `{"spec": {"replicas": null}}`) // the server's default is 1, and 0 is owned
	if diff := cmp.Diff([]reconcile.FieldDiff{{Path: "spec.replicas", Before: 1.0, After: 0.0}}, w.diff()); diff != "" {
		w.Errorf("zero (-want +got):\n%s", diff)
	}
	w.converge()
	w.wantSteady(false)
}

func sentIsNotRead(w *trap) {
	w.converge()
	data, err := json.Marshal(w.deployment())
	if err != nil {
		w.Fatal(err)
	}
	r := w.open()
	for _, resource := range r.resources {
		if resource.Address != Address("dev", "Deployment", "churn") {
			continue
		}
		sent, err := json.Marshal(resource.Desired["spec"])
		if err != nil || len(sent) >= len(data) || strings.Contains(string(sent), "dnsPolicy") {
			w.Errorf("what is sent is all that is read: the test tries nothing (%v)", err)
		}
	}
	w.wantSteady(true)
}

// A LIST right after a write has it, write after write.
func readAfterWrite(w *trap) {
	for i := range 8 {
		w.service().ScoringTimeoutMs = 60000 + 1000*i
		w.converge()
		w.wantSteady(true)
	}
}

// A rollout that is not through is joined, and nothing is written for it.
func transitional(w *trap) {
	w.converge()
	one := 1
	w.service().NumReplicas = &one // no node has a GPU, or is there
	r := w.open()
	ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
	defer cancel()
	result := reconcile.Apply(ctx, r.drivers, r.plan(w.T, reconcile.Options{}), reconcile.ApplyOptions{})
	if result.Count(reconcile.Failed) != 1 {
		w.Fatalf("a rollout without nodes: %+v", result.Outcomes)
	}
	again := w.open()
	plan := again.plan(w.T, reconcile.Options{})
	for _, c := range plan.Changes {
		if c.Address == Address("dev", "Deployment", "churn") && (c.Action != reconcile.Wait || c.Why == "") {
			w.Errorf("%s %q %v, want wait and why", c.Action, c.Why, c.Diff)
		}
	}
	if got := pending(plan); got != nil {
		w.Errorf("pending: %v", got)
	}
}

// What controllers, autoscalers and people write beside the file is theirs.
func othersFields(w *trap) {
	w.converge()
	w.patch(types.MergePatchType, `{"metadata": {"annotations": {"deployment.kubernetes.io/revision": "7", "policy": "x"}, "labels": {"team": "risk"}},
		"spec": {"paused": false, "minReadySeconds": 5, "template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-11-23T15:00:00Z"}}}}}`)
	w.wantSteady(false)
	// An autoscaler works through the scale subresource. The file owns the replicas here.
	scale, err := w.admin.typed.AppsV1().Deployments(Namespace(w.stack.Name)).GetScale(w.Context(), "churn", metav1.GetOptions{})
	if err != nil {
		w.Fatal(err)
	}
	scale.Spec.Replicas = 3
	if _, err := w.admin.typed.AppsV1().Deployments(Namespace(w.stack.Name)).UpdateScale(w.Context(), "churn", scale, metav1.UpdateOptions{FieldManager: "hpa"}); err != nil {
		w.Fatal(err)
	}
	if diff := cmp.Diff([]reconcile.FieldDiff{{Path: "spec.replicas", Before: 3.0, After: 0.0}}, w.diff()); diff != "" {
		w.Errorf("replicas (-want +got):\n%s", diff)
	}
	w.converge()
	w.wantSteady(false)
}

func removedFields(w *trap) {
	limit := 2.0
	w.service().Resources.CPULimit = &limit
	w.service().Inference.EnvironmentVariables = map[string]string{"LOG_LEVEL": "info"}
	w.converge()
	w.patch(types.StrategicMergePatchType, `{"spec": {"template": {"spec": {"containers": [{"name": "scoring", "env": [{"name": "OF_OTHERS", "value": "x"}]}]}}}}`)
	w.service().Resources.CPULimit, w.service().Inference.EnvironmentVariables = nil, nil
	gone := []string{}
	for _, d := range w.diff() {
		if d.After == nil {
			gone = append(gone, d.Path)
		}
	}
	if !slices.Contains(gone, "spec.template.spec.containers[0].resources.limits.cpu") {
		w.Errorf("the plan takes away %v", gone)
	}
	w.converge()
	c := w.container()
	left := map[string]bool{}
	for _, v := range c.Env {
		left[v.Name] = true
	}
	if left["LOG_LEVEL"] || !left["OF_OTHERS"] || !c.Resources.Limits.Cpu().IsZero() {
		w.Errorf("variables %v, limits %v", left, c.Resources.Limits)
	}
	w.wantSteady(false)
}

// A Deployment of the stack's whose selector is another cannot become what the file says: that
// is said, by name and field, and the others of the stack are not held up.
func createTimeOnly(w *trap) {
	w.converge()
	deployments := w.admin.typed.AppsV1().Deployments(Namespace(w.stack.Name))
	other := w.deployment()
	background := metav1.DeletePropagationBackground
	if err := deployments.Delete(w.Context(), "churn", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		w.Fatal(err)
	}
	other.ObjectMeta = metav1.ObjectMeta{Name: "churn", Labels: other.Labels}
	other.Spec.Selector.MatchLabels["app"], other.Spec.Template.Labels["app"] = "old", "old"
	if _, err := deployments.Create(w.Context(), other, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	for _, c := range w.open().plan(w.T, reconcile.Options{}).Changes {
		if c.Address != Address("dev", "Deployment", "churn") {
			continue
		}
		if c.Action != reconcile.Refuse || c.Reason != reconcile.ReasonImmutable || !strings.Contains(c.Why, "spec.selector") {
			w.Errorf("%s, %s: %s", c.Action, c.Reason, c.Why)
		}
	}
	w.service().ScoringTimeoutMs = 30000 // changes the routes too
	result := w.open().apply(w.T, reconcile.Options{})
	if result.Count(reconcile.Refused) != 1 || result.Count(reconcile.Done) != len(result.Outcomes)-1 {
		w.Errorf("%+v", result.Outcomes)
	}
	if err := deployments.Delete(w.Context(), "churn", metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		w.Fatal(err)
	}
	w.converge() // what the refusal says to do
	w.wantSteady(false)
}

func othersSurviveAnUpdate(w *trap) {
	w.converge()
	w.patch(types.MergePatchType, `{"metadata": {"annotations": {"policy": "x"}}, "spec": {"revisionHistoryLimit": 3}}`)
	w.service().ScoringTimeoutMs = 30000
	w.converge()
	if d := w.deployment(); d.Annotations["policy"] != "x" || *d.Spec.RevisionHistoryLimit != 3 {
		w.Errorf("annotations %v, revisionHistoryLimit %d after an update", d.Annotations, *d.Spec.RevisionHistoryLimit)
	}
	w.wantSteady(false)
}
