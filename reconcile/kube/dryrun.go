package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/amlaks/amlaks/reconcile"
)

// dryRun asks the API server what applying desired would make of an object. refused is its
// word that it never would.
func (c *client) dryRun(ctx context.Context, o object, desired map[string]any) (result *unstructured.Unstructured, refused *reconcile.Failure, err error) {
	result, err = c.apply(ctx, o, &unstructured.Unstructured{Object: desired},
		metav1.ApplyOptions{FieldManager: manager, Force: true, DryRun: []string{metav1.DryRunAll}})
	if refused = immutable(o, err); refused != nil {
		return nil, refused, nil
	}
	if err != nil {
		return nil, nil, explain(fmt.Sprintf("%s: dry-run", o.address()), err)
	}
	return result, nil, nil
}

// keepSpelling gives the quantities of predicted that are those of live the spelling that they
// have there: the API server keeps 1024Mi and 1Gi apart, and means the same.
func keepSpelling(predicted, live any) {
	switch predicted := predicted.(type) {
	case []any:
		live, _ := live.([]any)
		for i := range min(len(predicted), len(live)) {
			keepSpelling(predicted[i], live[i])
		}
	case map[string]any:
		live, _ := live.(map[string]any)
		for key, value := range predicted {
			if key == "requests" || key == "limits" {
				sameAmounts(value, live[key])
				continue
			}
			keepSpelling(value, live[key])
		}
	}
}

func sameAmounts(predicted, live any) {
	amounts, _ := predicted.(map[string]any)
	before, _ := live.(map[string]any)
	for name, value := range amounts {
		now, isText := value.(string)
		was, wasText := before[name].(string)
		if !isText || !wasText {
			continue
		}
		a, err := resource.ParseQuantity(now)
		b, wrong := resource.ParseQuantity(was)
		if err == nil && wrong == nil && a.Cmp(b) == 0 {
			amounts[name] = was
		}
	}
}

// immutableWords end what the API server says of a field that it never changes: of most, of
// a Service's addresses, of a RoleBinding's role.
var immutableWords = [...]string{"field is immutable", "may not change once set", "cannot change roleRef"}

// immutable gives the refusal of a dry-run that would change what Kubernetes never changes;
// nil for any other error. The API server marks it in words alone: its cause is FieldValueInvalid,
// as for any wrong value.
func immutable(o object, err error) *reconcile.Failure {
	var status apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &status) || status.Status().Details == nil {
		return nil
	}
	var fields []string
	for _, cause := range status.Status().Details.Causes {
		if slices.ContainsFunc(immutableWords[:], func(words string) bool { return strings.HasSuffix(cause.Message, words) }) {
			fields = append(fields, cause.Field)
		}
	}
	if len(fields) == 0 {
		return nil
	}
	return &reconcile.Failure{Reason: reconcile.ReasonImmutable, Err: fmt.Errorf("%s: Kubernetes never changes it: remove the %s (kubectl delete %s %s -n %s), and apply makes it anew",
		strings.Join(fields, ", "), o.kind, strings.ToLower(string(o.kind)), o.name, o.namespace)}
}
