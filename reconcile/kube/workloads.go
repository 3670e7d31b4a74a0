package kube

import (
	corev1 "k8s.io/api/core/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/amlaks/amlaks/spec"
)

// resourceGPU is NVIDIA's extended resource.
const resourceGPU corev1.ResourceName = "nvidia.com/gpu"

// Workload is what one Deployment asks of the nodes.
type Workload struct {
	Deployment string
	Service    string // in the file; empty: the front end
	Min, Max   int    // replicas; the same where nothing scales them
	// Requests are those of one replica.
	Requests    corev1.ResourceList
	Tolerations []corev1.Toleration
	Selector    map[string]string
}

// GPU is how many GPUs a replica asks for.
func (w Workload) GPU() int64 {
	n := w.Requests[resourceGPU]
	return n.Value()
}

// Workloads are what the stack puts on a cluster, as Resources renders it: the front end, and
// the services' versions in the file's order.
func (d *Driver) Workloads(cluster string) []Workload {
	var all []Workload
	for _, c := range d.stack.Clusters {
		if c.Name == cluster {
			all = append(all, Workload{Deployment: FrontEnd, Min: c.FrontEnd.Replicas, Max: c.FrontEnd.Replicas, Requests: quantities(frontEndCPU, frontEndMemory)})
		}
	}
	r := &renderer{driver: d}
	for _, s := range d.stack.Services {
		if s.Cluster != cluster {
			continue
		}
		for _, v := range s.ServedVersions() {
			w := Workload{Deployment: backend(s, v), Service: s.Name, Requests: corev1.ResourceList{}}
			w.Min, w.Max = replicaRange(s)
			w.read(r.pod(s, v))
			all = append(all, w)
		}
	}
	return all
}

// read takes over what a pod asks for.
func (w *Workload) read(pod *core.PodSpecApplyConfiguration) {
	w.Selector = pod.NodeSelector
	for _, t := range pod.Tolerations {
		var toleration corev1.Toleration
		if t.Key != nil {
			toleration.Key = *t.Key
		}
		if t.Operator != nil {
			toleration.Operator = *t.Operator
		}
		if t.Value != nil {
			toleration.Value = *t.Value
		}
		if t.Effect != nil {
			toleration.Effect = *t.Effect
		}
		w.Tolerations = append(w.Tolerations, toleration)
	}
	for _, c := range pod.Containers {
		if c.Resources == nil || c.Resources.Requests == nil {
			continue
		}
		for name, quantity := range *c.Resources.Requests {
			sum := w.Requests[name]
			sum.Add(quantity)
			w.Requests[name] = sum
		}
	}
}

// replicaRange is how many replicas each version of a service has, at least and at most.
func replicaRange(s spec.Service) (least, most int) {
	switch {
	case s.NumReplicas != nil:
		return *s.NumReplicas, *s.NumReplicas
	case s.AutoScaler != nil:
		return s.AutoScaler.MinReplicas, s.AutoScaler.MaxReplicas
	}
	return 1, 1
}
