package main

import (
	"context"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// An admission policy that denies an operation on the service's Deployment ends that change as
// Forbidden, names the policy, and leaves the rest alone; without it, a second run converges.
func TestAdmissionDenial(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		verb          string
		operation     admissionv1.OperationType
		before, after string
		lay           func(*world)
		code          int
	}{
		{"create", admissionv1.Create, withService, withService, dropDeployment, exitError1},
		// The dry-run of the plan is denied, too: nothing is begun.
		{"update", admissionv1.Update, withService, changedService, nil, exitError1},
		{"delete", admissionv1.Delete, twoServices, withService, nil, exitPartial},
	} {
		t.Run(test.verb, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.write("amlaks.yaml", test.before)
			w.mustBounded(exitOK, "apply", "--yes")
			if test.lay != nil {
				test.lay(w)
			}
			policy := w.deny(test.operation)
			w.write("amlaks.yaml", strings.ReplaceAll(test.after, "CELL", "1"))
			got := w.bounded("apply", "--yes", "--prune")
			for _, phrase := range []string{policy, "no " + test.verb + " today", "reason: Forbidden\n  hint: an admission policy or webhook of the cluster refused it"} {
				if !strings.Contains(got.stderr, phrase) {
					t.Errorf("it does not say %q", phrase)
				}
			}
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			if t.Failed() {
				t.Log(got.stdout + got.stderr)
			}
			w.allow(policy)
			w.mustBounded(exitOK, "apply", "--yes", "--prune")
			w.mustBounded(exitOK, "plan", "--prune", "--detailed-exitcode")
		})
	}
}

// deny has the API server refuse an operation on Deployments of the world's namespace, and
// returns when it does so.
func (w *world) deny(operation admissionv1.OperationType) (policy string) {
	w.t.Helper()
	ctx := w.t.Context()
	policy = w.stack + "-" + strings.ToLower(string(operation))
	admission := w.kube.AdmissionregistrationV1()
	fail, forbidden := admissionv1.Fail, metav1.StatusReasonForbidden
	if _, err := admission.ValidatingAdmissionPolicies().Create(ctx, &admissionv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: policy},
		Spec: admissionv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
				Operations: []admissionv1.OperationType{operation},
				Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
			}}}},
			// The Deployment controller of the control plane is nobody's business here.
			MatchConditions: []admissionv1.MatchCondition{{Name: "people", Expression: `!request.userInfo.username.startsWith("system:")`}},
			Validations:     []admissionv1.Validation{{Expression: "false", Message: "no " + strings.ToLower(string(operation)) + " today", Reason: &forbidden}},
		},
	}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.allow(policy) })
	if _, err := admission.ValidatingAdmissionPolicyBindings().Create(ctx, &admissionv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy},
		Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": w.namespace}}},
		},
	}, metav1.CreateOptions{}); err != nil {
		w.t.Fatal(err)
	}
	deployments := w.kube.AppsV1().Deployments(w.namespace)
	tried := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	w.eventually("the policy "+policy+" denies", func(ctx context.Context) (bool, error) {
		var err error
		switch operation {
		case admissionv1.Create:
			model, getErr := deployments.Get(ctx, "amlaks-fe", metav1.GetOptions{})
			if getErr != nil {
				return false, getErr
			}
			model.ObjectMeta = metav1.ObjectMeta{Name: "probe"}
			_, err = deployments.Create(ctx, model, tried)
		case admissionv1.Update:
			_, err = deployments.Patch(ctx, "amlaks-fe", types.MergePatchType, []byte(`{"metadata": {"labels": {"probe": "1"}}}`), metav1.PatchOptions{DryRun: tried.DryRun})
		default:
			err = deployments.Delete(ctx, "amlaks-fe", metav1.DeleteOptions{DryRun: tried.DryRun})
		}
		if apierrors.IsForbidden(err) {
			return true, nil
		}
		return false, err
	})
	return policy
}

// allow takes a policy away, and returns when nothing is denied any more.
func (w *world) allow(policy string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after the test
	defer cancel()
	admission := w.kube.AdmissionregistrationV1()
	for _, err := range []error{
		admission.ValidatingAdmissionPolicyBindings().Delete(ctx, policy, metav1.DeleteOptions{}),
		admission.ValidatingAdmissionPolicies().Delete(ctx, policy, metav1.DeleteOptions{}),
	} {
		if err != nil && !apierrors.IsNotFound(err) {
			w.t.Error(err)
		}
	}
	if w.t.Context().Err() != nil {
		return
	}
	w.eventually("nothing is denied any more", func(ctx context.Context) (bool, error) {
		deployments := w.kube.AppsV1().Deployments(w.namespace)
		model, err := deployments.Get(ctx, "amlaks-fe", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		all := []string{metav1.DryRunAll}
		_, updateErr := deployments.Patch(ctx, "amlaks-fe", types.MergePatchType, []byte(`{"metadata": {"labels": {"probe": "1"}}}`), metav1.PatchOptions{DryRun: all})
		deleteErr := deployments.Delete(ctx, "amlaks-fe", metav1.DeleteOptions{DryRun: all})
		model.ObjectMeta = metav1.ObjectMeta{Name: "probe"}
		_, createErr := deployments.Create(ctx, model, metav1.CreateOptions{DryRun: all})
		for _, err := range []error{updateErr, deleteErr, createErr} {
			if err != nil {
				if apierrors.IsForbidden(err) {
					return false, nil
				}
				return false, err
			}
		}
		return true, nil
	})
}

// eventually looks until it is so.
func (w *world) eventually(what string, so func(context.Context) (bool, error)) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := so(ctx)
		switch {
		case err != nil:
			w.t.Fatalf("%s: %v", what, err)
		case ok:
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("%s: not within a minute", what)
		case <-ticker.C:
		}
	}
}

// A finalizer that nobody serves keeps an object for ever: the wait is bounded, says what it is
// for, and the next run joins it.
func TestDeletionNeverEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("amlaks.yaml", twoServices)
	w.mustBounded(exitOK, "apply", "--yes")
	w.finalizers(`["example.com/hold"]`)
	t.Cleanup(func() { w.finalizers(`[]`) })
	w.write("amlaks.yaml", withService)
	got := w.bounded("apply", "--yes", "--prune", "--timeout", "6s")
	for _, phrase := range []string{"kube/prod/Deployment/second: waiting until it is gone", "reason: NotHealthy\n  hint: it may still be going on"} {
		if !strings.Contains(got.stderr, phrase) {
			t.Errorf("it does not say %q", phrase)
		}
	}
	if got.code != exitNotHealthy {
		t.Errorf("exit code %d, want %d", got.code, exitNotHealthy)
	}
	if t.Failed() {
		t.Log(got.stdout + got.stderr)
	}
	w.finalizers(`[]`)
	w.mustBounded(exitOK, "apply", "--yes", "--prune")
	w.mustBounded(exitOK, "plan", "--prune", "--detailed-exitcode")
}

// finalizers sets those of the second service's Deployment, if it is there.
func (w *world) finalizers(list string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after the test
	defer cancel()
	patch := []byte(`{"metadata": {"finalizers": ` + list + `}}`)
	_, err := w.kube.AppsV1().Deployments(w.namespace).Patch(ctx, "second", types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		w.t.Error(err)
	}
}

// An API server that restarts in the middle of a create, an update, a delete or a read is
// waited for. The control plane is this test's own: the other worlds' goes on undisturbed.
func TestAPIServerRestart(t *testing.T) {
	t.Parallel()
	own := &controlPlane{}
	t.Cleanup(func() {
		if err := own.end(); err != nil {
			t.Error(err)
		}
	})
	if err := own.begin(); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		verb, before, after, method, path string
		lay                               func(*world)
		run                               []string
	}{
		{"create", withService, withService, "PATCH", "/deployments/churn", dropDeployment, applyAll},
		{"update", withService, changedService, "PATCH", "/deployments/churn", nil, applyAll},
		{"delete", twoServices, withService, "DELETE", "/deployments/second", nil, applyAll},
		{"read", withService, withService, "GET", "/deployments", nil, planAll},
	} {
		t.Run(test.verb, func(t *testing.T) {
			met, restarted := make(chan struct{}, 1), make(chan error, 1)
			w := newWorld(t, func(o *sandbox.Options) {
				o.Kubeconfig = own.cluster.Kubeconfig()
				o.Hook = func(r sandbox.Request, moment sandbox.Moment) bool {
					if moment == sandbox.Before && r.Service == "kube" && r.Method == test.method && r.Query["dryRun"] == nil && strings.HasSuffix(r.Path, test.path) {
						select {
						case met <- struct{}{}:
						default:
						}
					}
					return true
				}
			})
			w.kube, w.cluster = own.client, own.cluster
			w.write("amlaks.yaml", test.before)
			w.mustBounded(exitOK, "apply", "--yes")
			if test.lay != nil {
				test.lay(w)
			}
			w.write("amlaks.yaml", strings.ReplaceAll(test.after, "CELL", "1"))
			select {
			case <-met: // of the apply before
			default:
			}
			go func() {
				select {
				case <-met:
					restarted <- w.cluster.RestartAPIServer(context.WithoutCancel(t.Context()))
				case <-t.Context().Done():
				}
			}()
			got := w.bounded(append([]string{"--request-timeout", "80s"}, test.run...)...) // a busy machine starts it slowly
			if err := <-restarted; err != nil {
				t.Fatal(err)
			}
			if got.code != exitOK {
				t.Errorf("exit code %d\n%s%s", got.code, got.stdout, got.stderr)
			}
			w.mustBounded(exitOK, "plan", "--prune", "--detailed-exitcode")
		})
	}
}

// Somebody who is asked to wait longer than a minute does so, and does not give up: once for
// real, where nothing bounds it.
func TestAskedToWaitAMinute(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a minute")
	}
	t.Parallel()
	w := newWorld(t)
	w.write("amlaks.yaml", faultCluster)
	for _, fault := range []sandbox.Fault{
		{Service: "arm", Method: "GET", Path: "managedClusters$", Status: 429, RetryAfter: minute1},
	} {
		if _, err := w.Fault(fault); err != nil {
			t.Fatal(err)
		}
	}
	got := w.bounded("plan", "--detailed-exitcode")
	if got.code != exitPending || !strings.Contains(got.stderr, "amlaks: Azure asks to wait 1m1s (HTTP 429)") {
		t.Errorf("exit code %d\n%s", got.code, got.stderr)
	}
	if left := w.Faults(); len(left) > 0 {
		t.Errorf("%d faults are left", len(left))
	}
}

// A part that fails does not keep the rest from being done, and the exit code says so.
func TestPartOfAPlanFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write("amlaks.yaml", withService)
	if _, err := w.Fault(sandbox.Fault{Service: "kube", Method: "PATCH", Path: "/deployments/churn$", Status: 403}); err != nil {
		t.Fatal(err)
	}
	got := w.bounded("apply", "--yes")
	if got.code != exitPartial || !strings.Contains(got.stderr, "reason: "+string(reconcile.ReasonForbidden)) {
		t.Errorf("exit code %d, want %d\n%s", got.code, exitPartial, got.stderr)
	}
	if _, err := w.kube.AppsV1().Deployments(w.namespace).Get(t.Context(), "amlaks-fe", metav1.GetOptions{}); err != nil {
		t.Errorf("the front end was not made: %v", err)
	}
	w.mustBounded(exitOK, "apply", "--yes")
	w.mustBounded(exitOK, "plan", "--detailed-exitcode")
}
