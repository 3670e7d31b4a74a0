package kube

import (
	"context"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// mutation has a policy of the cluster change every Deployment that is written: a field that
// nobody owns, and one that the file does.
func mutation(w *trap) {
	policies, bindings := w.admin.typed.AdmissionregistrationV1().MutatingAdmissionPolicies(), w.admin.typed.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	fail, equivalent := admissionv1.Fail, admissionv1.Equivalent
	policy := &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "trap"},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			FailurePolicy: &fail, ReinvocationPolicy: admissionv1.NeverReinvocationPolicy,
			MatchConstraints: &admissionv1.MatchResources{
				MatchPolicy: &equivalent, NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create, admissionv1.Update},
					Rule:       admissionv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"deployments"}},
				}}},
			},
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &admissionv1.ApplyConfiguration{Expression: `Object{
					spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
						priorityClassName: "system-cluster-critical", terminationGracePeriodSeconds: 7}}}}`},
			}},
		},
	}
	if _, err := policies.Create(w.Context(), policy, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		w.check(policies.Delete(context.WithoutCancel(w.Context()), "trap", metav1.DeleteOptions{}))
		w.awaitMutation(false)
	})
	binding := &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "trap"}, Spec: admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: "trap"},
	}
	if _, err := bindings.Create(w.Context(), binding, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { w.check(bindings.Delete(context.WithoutCancel(w.Context()), "trap", metav1.DeleteOptions{})) })
	w.awaitMutation(true)
	w.converge()
	if d := w.deployment(); d.Spec.Template.Spec.PriorityClassName != "system-cluster-critical" || *d.Spec.Template.Spec.TerminationGracePeriodSeconds != 7 {
		w.Errorf("nothing was mutated: the test tries nothing: %+v", d.Spec.Template.Spec)
	}
	w.wantSteady(false)
	w.service().ScoringTimeoutMs = 30000
	w.converge()
	w.wantSteady(false)
}

func (w *trap) check(err error) {
	if err != nil {
		w.Error(err)
	}
}

// awaitMutation tries, by dry-runs, until the API server has come to know the policy, or
// that it is gone.
func (w *trap) awaitMutation(there bool) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Context()), 30*time.Second)
	defer cancel()
	probe := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "probe", Namespace: "default"}, Spec: appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}}},
	}}
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		d, err := w.admin.typed.AppsV1().Deployments("default").Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err == nil && (d.Spec.Template.Spec.PriorityClassName != "") == there {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			w.Fatalf("the policy is not in force, or not out of it: %v", err)
		}
	}
}
