package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

const (
	pageSize = 1000 // objects a LIST page
	dryRuns  = 16   // at a time; beyond that the API server only queues them
)

// handle is what a step on an object that has left the file needs.
type handle struct {
	object
	client *client
	uid    types.UID
}

// Observe implements reconcile.Driver.
func (d *Driver) Observe(ctx context.Context, request reconcile.Request) ([]reconcile.Live, error) {
	desired := map[string][]reconcile.Resource{}
	for _, r := range request.Resources {
		cluster := r.Spec.(object).cluster
		desired[cluster] = append(desired[cluster], r)
	}
	output := d.wiring.Kubeconfig("").Output
	var mu sync.Mutex
	var live []reconcile.Live
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range slices.Sorted(maps.Keys(request.Outputs)) {
		kubeconfig := request.Outputs[address][output]
		if kubeconfig == "" {
			continue
		}
		group.Go(func() error {
			_, cluster, _ := strings.Cut(string(address), "/")
			seen, err := d.observeCluster(ctx, cluster, kubeconfig, desired[cluster])
			if err != nil {
				return fmt.Errorf("%s: %w", address, err)
			}
			mu.Lock()
			defer mu.Unlock()
			live = append(live, seen...)
			return nil
		})
	}
	return live, group.Wait()
}

// observeCluster lists the stack's namespace and compares it with what is desired there.
func (d *Driver) observeCluster(ctx context.Context, cluster, kubeconfig string, desired []reconcile.Resource) ([]reconcile.Live, error) {
	c, err := d.client(kubeconfig)
	if err != nil {
		return nil, err
	}
	found, err := c.listStack(ctx, Namespace(d.stack.Name))
	if err != nil {
		return nil, err
	}
	declared := make(map[string]reconcile.Resource, len(desired))
	for _, r := range desired {
		declared[r.Spec.(object).key()] = r
	}
	live := make([]*reconcile.Live, len(found))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(dryRuns)
	for i, item := range found {
		o := object{cluster: cluster, kind: kind(item.GetKind()), namespace: item.GetNamespace(), name: item.GetName()}
		r, isDeclared := declared[o.key()]
		if isDeclared {
			o = r.Spec.(object)
		}
		if !isDeclared && item.GetLabels()[LabelStack] != d.stack.Name {
			continue // somebody else's, or Kubernetes' own
		}
		group.Go(func() error {
			l := d.live(c, o, item)
			if isDeclared && l.Owner == d.stack.Name {
				if err := d.predict(ctx, c, o, r.Desired, item, l); err != nil {
					return err
				}
			}
			live[i] = l
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	out := make([]reconcile.Live, 0, len(live))
	for _, l := range live {
		if l != nil {
			out = append(out, *l)
		}
	}
	return out, nil
}

// listStack gives the namespace and everything in it of the kinds that amlaks writes.
func (c *client) listStack(ctx context.Context, namespace string) ([]*unstructured.Unstructured, error) {
	ns, err := c.objects(kindNamespace, "").Get(ctx, namespace, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read namespace "+namespace, err)
	}
	lists := make([][]*unstructured.Unstructured, len(kinds))
	group, ctx := errgroup.WithContext(ctx)
	for i, k := range kinds {
		group.Go(func() error {
			options := metav1.ListOptions{Limit: pageSize}
			for {
				page, err := c.objects(k, namespace).List(ctx, options)
				if err != nil {
					return explain(fmt.Sprintf("list %s objects in %s", k, namespace), err)
				}
				for j := range page.Items {
					page.Items[j].SetKind(string(k))
					page.Items[j].SetAPIVersion(k.resource().GroupVersion().String())
					lists[i] = append(lists[i], &page.Items[j])
				}
				if options.Continue = page.GetContinue(); options.Continue == "" {
					return nil
				}
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return append([]*unstructured.Unstructured{ns}, slices.Concat(lists...)...), nil
}

// live is an object as it was listed.
func (d *Driver) live(c *client, o object, item *unstructured.Unstructured) *reconcile.Live {
	l := &reconcile.Live{
		Address: o.address(), Owner: item.GetLabels()[LabelStack], Version: item.GetResourceVersion(),
		Body: shown(item, o), State: reconcile.Settled,
		Handle: handle{object: o, client: c, uid: item.GetUID()},
		Within: reconcile.Address("cluster/" + o.cluster),
	}
	l.DependsOn = []reconcile.Address{l.Within}
	if o.kind != kindNamespace {
		l.Within = Address(o.cluster, string(kindNamespace), o.namespace)
		l.DependsOn = append(l.DependsOn, l.Within)
	}
	switch {
	case o.kind == kindDeployment:
		l.State, l.Status = rolloutState(item)
	case o.kind == kindService && o.frontEnd:
		if address := frontEndAddress(item); address != "" {
			l.Outputs = map[string]string{OutputAddress: address}
		} else if isLoadBalancer(item) {
			l.State, l.Status = reconcile.InProgress, "it has no address yet"
		}
	}
	return l
}

// predict fills in what applying desired would make of the object.
func (d *Driver) predict(ctx context.Context, c *client, o object, desired map[string]any, item *unstructured.Unstructured, l *reconcile.Live) error {
	want := &unstructured.Unstructured{Object: desired}
	same, err := d.ownsExactly(item, want)
	if err != nil {
		return fmt.Errorf("%s: %w", o.address(), err)
	}
	if same {
		l.Predicted = maps.Clone(l.Body)
	} else {
		result, err := c.apply(ctx, o, want, metav1.ApplyOptions{FieldManager: manager, Force: true, DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return explain(fmt.Sprintf("%s: dry-run", o.address()), err)
		}
		l.Predicted = shown(result, o)
	}
	if o.keys && !hasKeys(item) {
		l.Predicted["data"] = map[string]any{routes.PrimaryKey: generated, routes.SecondaryKey: generated}
	}
	return nil
}

// ownsExactly tells whether the fields that our manager owns of the live object are exactly
// those that we would send: then the apply would change nothing.
func (d *Driver) ownsExactly(live, want *unstructured.Unstructured) (bool, error) {
	var fields *metav1.FieldsV1
	for _, entry := range live.GetManagedFields() {
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == "" {
			fields = entry.FieldsV1
		}
	}
	if fields == nil {
		return false, nil
	}
	owned := &fieldpath.Set{}
	if err := owned.FromJSON(strings.NewReader(string(fields.GetRawBytes()))); err != nil {
		return false, fmt.Errorf("read its managed fields: %w", err)
	}
	liveValue, err := d.types.ObjectToTyped(live)
	if err != nil {
		return false, err
	}
	wantValue, err := d.types.ObjectToTyped(plainNumbers(want))
	if err != nil {
		return false, nil // what is known after apply may not be of the right type
	}
	extracted := liveValue.ExtractItems(owned.Leaves(), typed.WithAppendKeyFields())
	// Names identify the object; no manager owns them.
	identity := map[string]any{"apiVersion": want.GetAPIVersion(), "kind": want.GetKind()}
	extractedObject, ok := extracted.AsValue().Unstructured().(map[string]any)
	if !ok {
		return false, nil
	}
	maps.Copy(extractedObject, identity)
	metadata, _ := extractedObject["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		extractedObject["metadata"] = metadata
	}
	metadata["name"] = want.GetName()
	if want.GetNamespace() != "" {
		metadata["namespace"] = want.GetNamespace()
	}
	got, err := d.types.ObjectToTyped(&unstructured.Unstructured{Object: extractedObject})
	if err != nil {
		return false, err
	}
	comparison, err := got.Compare(wantValue)
	if err != nil {
		return false, err
	}
	return comparison.IsSame(), nil
}

// plainNumbers gives the object with the whole numbers that JSON decoding made float64 as int64,
// which is what the API machinery expects.
func plainNumbers(o *unstructured.Unstructured) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: integers(o.Object).(map[string]any)}
}

func integers(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = integers(item)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = integers(item)
		}
		return out
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return v
}

// generated stands for keys in a plan.
const generated = "(generated)"

// shown is the object as a plan compares it: without what the server keeps for itself, and
// without secrets, unless they are compared, masked.
func shown(item *unstructured.Unstructured, is object) map[string]any {
	o := runtime.DeepCopyJSON(item.Object)
	delete(o, "status")
	if metadata, ok := o["metadata"].(map[string]any); ok {
		for _, key := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
			delete(metadata, key)
		}
	}
	if item.GetKind() == string(kindSecret) && !is.values {
		delete(o, "data")
		delete(o, "stringData")
	}
	return o
}
