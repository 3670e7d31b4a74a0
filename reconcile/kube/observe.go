package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

// dryRuns is how many are asked for at a time; beyond that the API server only queues them.
const dryRuns = 16

// handle is what a step on an object that has left the file needs.
type handle struct {
	object
	client *client
	uid    types.UID
}

// Observe implements reconcile.Driver.
func (d *Driver) Observe(ctx context.Context, request reconcile.Request) ([]reconcile.Live, error) {
	references, err := d.readReferences(ctx, request.Resources)
	if err != nil {
		return nil, err
	}
	desired, refused := map[string][]reconcile.Resource{}, map[reconcile.Address]*reconcile.Failure{}
	for _, r := range request.Resources {
		o, ok := r.Spec.(object)
		if !ok {
			continue
		}
		if failure := references.fill(o, r.Desired); failure != nil {
			refused[r.Address] = failure
		}
		desired[o.cluster] = append(desired[o.cluster], r)
	}
	output := d.wiring.Kubeconfig("").Output
	var mu sync.Mutex
	live := references.live
	group, ctx := errgroup.WithContext(ctx)
	for _, address := range slices.Sorted(maps.Keys(request.Outputs)) {
		kubeconfig := request.Outputs[address][output]
		if kubeconfig == "" {
			continue
		}
		group.Go(func() error {
			_, cluster, _ := strings.Cut(string(address), "/")
			seen, err := d.observeCluster(ctx, cluster, kubeconfig, desired[cluster], refused)
			if err != nil {
				return fmt.Errorf("%s: %w", address, err)
			}
			mu.Lock()
			defer mu.Unlock()
			live = append(live, seen...)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return withRefused(live, refused), nil
}

// withRefused adds what is not there and must not be made.
func withRefused(live []reconcile.Live, refused map[reconcile.Address]*reconcile.Failure) []reconcile.Live {
	there := map[reconcile.Address]bool{}
	for _, l := range live {
		there[l.Address] = true
	}
	for address, failure := range refused {
		if !there[address] {
			live = append(live, reconcile.Live{Address: address, Absent: true, Refused: failure})
		}
	}
	return live
}

// observeCluster lists the stack's namespace and compares it with what is desired there. It
// holds a page of each kind at a time, and keeps of each object only what the plan needs.
func (d *Driver) observeCluster(ctx context.Context, cluster, kubeconfig string, desired []reconcile.Resource, refused map[reconcile.Address]*reconcile.Failure) ([]reconcile.Live, error) {
	c, err := d.client(kubeconfig)
	if err != nil {
		return nil, err
	}
	namespace, err := c.get(ctx, kindNamespace, "", Namespace(d.stack.Name))
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("read namespace "+Namespace(d.stack.Name), err)
	}
	o := &observation{driver: d, client: c, cluster: cluster, refused: refused, declared: make(map[objectKey]*reconcile.Resource, len(desired))}
	for i := range desired {
		o.declared[desired[i].Spec.(object).key()] = &desired[i]
	}
	o.dryRuns, o.ctx = errgroup.WithContext(ctx)
	o.dryRuns.SetLimit(dryRuns)
	lists, listCtx := errgroup.WithContext(o.ctx)
	lists.Go(func() error { return o.page(kindNamespace, []runtime.Object{namespace}) })
	for _, k := range kinds {
		lists.Go(func() error {
			return c.pages(listCtx, k, Namespace(d.stack.Name), func(items []runtime.Object) error { return o.page(k, items) })
		})
	}
	err = lists.Wait()
	// What failed first says why; the other side was only cancelled.
	if dryRunErr := o.dryRuns.Wait(); dryRunErr != nil {
		return nil, dryRunErr
	}
	return o.live, err
}

// observation is one look at a cluster.
type observation struct {
	driver   *Driver
	client   *client
	cluster  string
	declared map[objectKey]*reconcile.Resource
	refused  map[reconcile.Address]*reconcile.Failure // of those, what the file refers to in vain
	ctx      context.Context                          // of the dry-runs
	dryRuns  *errgroup.Group

	mu   sync.Mutex
	live []reconcile.Live
}

// page takes in a page of a kind.
func (o *observation) page(k kind, items []runtime.Object) error {
	live := make([]reconcile.Live, 0, len(items))
	for _, item := range items {
		metadata, err := meta.Accessor(item)
		if err != nil {
			return err
		}
		is := object{cluster: o.cluster, kind: k, namespace: metadata.GetNamespace(), name: metadata.GetName()}
		r := o.declared[is.key()]
		if r == nil && metadata.GetLabels()[LabelStack] != o.driver.stack.Name {
			continue // somebody else's, or Kubernetes' own
		}
		if r != nil {
			is = r.Spec.(object)
		}
		l := o.driver.live(o.client, is, item)
		switch {
		case r == nil || l.Owner != o.driver.stack.Name:
			l.Body = shown(item, is)
		case o.refused[r.Address] != nil:
			l.Body, l.Refused = shown(item, is), o.refused[r.Address]
			l.Predicted = l.Body // what would be made of it is not known
		case o.driver.same(is, r.Desired, item, l):
		default:
			o.dryRuns.Go(func() error {
				if err := o.driver.predict(o.ctx, o.client, is, r.Desired, item, l, false); err != nil {
					return err
				}
				o.add(*l)
				return nil
			})
			continue
		}
		live = append(live, *l)
	}
	o.add(live...)
	return nil
}

func (o *observation) add(live ...reconcile.Live) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live = append(o.live, live...)
}

// live is an object as it was read, without its body.
func (d *Driver) live(c *client, o object, item runtime.Object) *reconcile.Live {
	metadata, err := meta.Accessor(item)
	if err != nil {
		return &reconcile.Live{Address: o.address(), State: reconcile.Unhealthy, Status: err.Error()}
	}
	l := &reconcile.Live{
		Address: o.address(), Owner: metadata.GetLabels()[LabelStack], Version: metadata.GetResourceVersion(), State: reconcile.Settled,
		Handle: handle{object: o, client: c, uid: metadata.GetUID()},
		Within: reconcile.Address("cluster/" + o.cluster),
	}
	l.DependsOn = []reconcile.Address{l.Within}
	if o.kind != kindNamespace {
		l.Within = Address(o.cluster, string(kindNamespace), o.namespace)
		l.DependsOn = append(l.DependsOn, l.Within)
	}
	switch item := item.(type) {
	case *appsv1.Deployment:
		if ready, status := rolledOut(item); !ready {
			l.State, l.Status = reconcile.InProgress, status
		}
	case *corev1.Service:
		if !o.frontEnd {
			break
		}
		if address := frontEndAddress(item); address != "" {
			host, _ := ingress(item)
			l.Outputs = map[string]string{OutputAddress: address, OutputHost: host}
		} else if isLoadBalancer(item) {
			l.State, l.Status = reconcile.InProgress, "it has no address yet"
		}
	}
	return l
}

// same tells whether applying desired would change nothing, and says so in l. The body is then
// what the file owns of it, which saves holding, and comparing, thousands of whole objects.
func (d *Driver) same(o object, desired map[string]any, item runtime.Object, l *reconcile.Live) bool {
	if o.keys && !hasKeys(item) || !d.comparer.unchanged(item, desired) {
		return false
	}
	l.Body, l.Predicted = desired, desired
	return true
}

// predict fills in the body, and what applying desired would make of it. again says that the
// object has been read anew already.
func (d *Driver) predict(ctx context.Context, c *client, o object, desired map[string]any, item runtime.Object, l *reconcile.Live, again bool) error {
	if d.same(o, desired, item, l) {
		return nil
	}
	l.Body = shown(item, o)
	result, refused, err := c.dryRun(ctx, o, desired)
	if l.Refused = refused; refused != nil || err != nil {
		return err
	}
	if result.GetResourceVersion() != l.Version && !again {
		// Somebody wrote since the LIST: what they did is not for the plan to show.
		fresh, err := c.get(ctx, o.kind, o.namespace, o.name)
		if err != nil {
			return explain(fmt.Sprintf("%s: read", o.address()), err)
		}
		*l = *d.live(c, o, fresh)
		return d.predict(ctx, c, o, desired, fresh, l, true)
	}
	after, err := typed(o.kind, result)
	if err != nil {
		return fmt.Errorf("%s: dry-run: %w", o.address(), err)
	}
	l.Predicted = shown(after, o)
	keepSpelling(l.Predicted, l.Body)
	if o.keys && !hasKeys(item) {
		l.Predicted["data"] = map[string]any{routes.PrimaryKey: generated, routes.SecondaryKey: generated}
	}
	return nil
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
// without secrets, unless they are compared, masked. Both sides of a comparison come from
// client-go's own types, so that neither has a field that the other cannot have.
func shown(item runtime.Object, is object) map[string]any {
	o, err := runtime.DefaultUnstructuredConverter.ToUnstructured(item)
	if err != nil {
		return nil
	}
	o["apiVersion"], o["kind"] = is.kind.resource().GroupVersion().String(), string(is.kind)
	delete(o, "status")
	if metadata, ok := o["metadata"].(map[string]any); ok {
		for _, key := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
			delete(metadata, key)
		}
	}
	if is.kind == kindSecret && !is.values {
		delete(o, "data")
		delete(o, "stringData")
	}
	return o
}
