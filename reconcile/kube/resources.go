package kube

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

const inputKubeconfig = "kubeconfig"

// object identifies one object of a stack in a cluster, and what is special about it.
type object struct {
	cluster   string
	kind      kind
	namespace string
	name      string

	keys     bool      // a Secret whose keys are generated once and kept
	values   bool      // a Secret whose values the file refers to: compared, never shown
	frontEnd bool      // belongs to the front end
	places   *[]placed // what of it comes from references
}

func (o object) address() reconcile.Address { return Address(o.cluster, string(o.kind), o.name) }

// objectKey tells objects of one cluster apart.
type objectKey struct {
	kind            kind
	namespace, name string
}

func (o object) key() objectKey { return objectKey{o.kind, o.namespace, o.name} }

// Resources renders the objects of the stack, cluster by cluster.
func (d *Driver) Resources() ([]reconcile.Resource, error) {
	var all []reconcile.Resource
	referred := map[reconcile.Address]bool{}
	for i, cluster := range d.stack.Clusters {
		r := &renderer{driver: d, cluster: cluster, at: fmt.Sprintf("clusters[%d]", i), namespace: Namespace(d.stack.Name), referred: referred}
		r.clusterObjects()
		for _, service := range d.stack.Services {
			if service.Cluster == cluster.Name {
				r.service(service)
			}
		}
		r.routes()
		if r.err != nil {
			return nil, fmt.Errorf("cluster %s: %w", cluster.Name, r.err)
		}
		all = append(all, r.resources...)
	}
	return all, nil
}

// renderer collects the resources of one cluster. The first error stops it and is kept.
type renderer struct {
	driver    *Driver
	cluster   spec.Cluster
	at        string // where in the file the cluster is
	namespace string
	referred  map[reconcile.Address]bool // the references that are declared, of all clusters
	resources []reconcile.Resource
	err       error
}

// add makes a resource of an apply configuration.
func (r *renderer) add(o object, configuration any, summary string, dependsOn ...reconcile.Address) {
	if r.err != nil {
		return
	}
	// Not by way of JSON text, which would give every object its own copy of every key.
	converted, err := runtime.DefaultUnstructuredConverter.ToUnstructured(configuration)
	if err != nil {
		r.err = err
		return
	}
	desired := plain(converted).(map[string]any)
	o.cluster = r.cluster.Name
	kubeconfig := r.driver.wiring.Kubeconfig(r.cluster.Name)
	dependencies := []reconcile.Address{kubeconfig.Address}
	if o.kind != kindNamespace {
		dependencies = append(dependencies, Address(o.cluster, string(kindNamespace), r.namespace))
	}
	r.resources = append(r.resources, reconcile.Resource{
		Address: o.address(), Driver: DriverName, DependsOn: append(dependencies, dependsOn...),
		Inputs: map[string]reconcile.Ref{inputKubeconfig: kubeconfig},
		// A namespace of the stack's name that bears no label is the stack's own, half made.
		Desired: desired, Spec: o, Summary: summary, Adopt: o.kind == kindNamespace, After: r.driver.comesAfter(o),
	})
}

// plain gives v as JSON decoding would: its numbers float64, and maps no larger than what
// they hold (the converter's have room for every field of their type).
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[key] = plain(item)
		}
		return out
	case []any:
		for i, item := range v {
			v[i] = plain(item)
		}
	case int64:
		return float64(v)
	}
	return v
}

// setImage puts a reference to an image output in the place of the last Deployment's image.
func (r *renderer) setImage(ref reconcile.Ref) {
	if r.err != nil {
		return
	}
	deployment := &r.resources[len(r.resources)-1]
	containers, found, err := nestedSlice(deployment.Desired, "spec", "template", "spec", "containers")
	if err != nil || !found {
		r.err = fmt.Errorf("%s has no container: %w", deployment.Address, err)
		return
	}
	containers[0].(map[string]any)["image"] = ref
	deployment.DependsOn = append(deployment.DependsOn, ref.Address)
}

// nestedSlice is the list itself, not a copy.
func nestedSlice(o map[string]any, path ...string) ([]any, bool, error) {
	for _, key := range path[:len(path)-1] {
		below, ok := o[key].(map[string]any)
		if !ok {
			return nil, false, fmt.Errorf("%s is not there", strings.Join(path, "."))
		}
		o = below
	}
	list, ok := o[path[len(path)-1]].([]any)
	return list, ok, nil
}
