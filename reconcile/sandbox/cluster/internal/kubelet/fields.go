package kubelet

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// field is the downward API's fieldRef.
func (w *workload) field(path string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.pod
	for prefix, from := range map[string]map[string]string{"metadata.labels": pod.Labels, "metadata.annotations": pod.Annotations} {
		if path == prefix {
			var out []string
			for _, k := range sortedKeys(from) {
				out = append(out, k+"="+strconv.Quote(from[k]))
			}
			return strings.Join(out, "\n"), nil
		}
		if key, ok := strings.CutPrefix(path, prefix+"['"); ok {
			return from[strings.TrimSuffix(key, "']")], nil
		}
	}
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "spec.nodeName":
		return w.spec.NodeName, nil
	case "spec.serviceAccountName":
		return w.spec.ServiceAccountName, nil
	case "status.podIP", "status.podIPs":
		return w.ip, nil
	case "status.hostIP", "status.hostIPs":
		return w.p.HostIP, nil
	}
	return "", fmt.Errorf("unknown field %q", path)
}

// resource is the downward API's resourceFieldRef.
func (w *workload) resource(own string, ref *corev1.ResourceFieldSelector) (string, error) {
	name := ref.ContainerName
	if name == "" {
		name = own
	}
	for _, c := range w.spec.Containers {
		if c.Name != name {
			continue
		}
		kind, key, _ := strings.Cut(ref.Resource, ".")
		from := c.Resources.Requests
		if kind == "limits" {
			from = c.Resources.Limits
		}
		value := from[corev1.ResourceName(key)]
		divisor := ref.Divisor
		if divisor.IsZero() {
			divisor = resource.MustParse("1")
		}
		if divisor.MilliValue() == 0 {
			return "", fmt.Errorf("divisor %s is too small", divisor.String())
		}
		// Rounded up, as the kubelet does.
		return strconv.FormatInt((value.MilliValue()+divisor.MilliValue()-1)/divisor.MilliValue(), 10), nil
	}
	return "", fmt.Errorf("no container %q", name)
}
