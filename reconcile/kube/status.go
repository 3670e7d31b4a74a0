package kube

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// ServiceState is v1's word on how a service is doing.
type ServiceState string

// The states of a service, as v1 had them (AksWebservice.state).
const (
	Healthy       ServiceState = "Healthy"
	Transitioning ServiceState = "Transitioning" // a rollout is going on
	Unschedulable ServiceState = "Unschedulable" // no node has room
	Failed        ServiceState = "Failed"        // its process crashes, or its image cannot be pulled
	Absent        ServiceState = "Absent"        // not applied yet
)

// VersionStatus is how one version of a service is doing.
type VersionStatus struct {
	Version  string       `json:"version"`
	State    ServiceState `json:"state"`
	Desired  int32        `json:"desiredReplicas"`
	Updated  int32        `json:"updatedReplicas"`
	Ready    int32        `json:"availableReplicas"`
	Image    string       `json:"image,omitempty"`
	Problem  string       `json:"error,omitempty"`
	Restarts int32        `json:"restarts"`
}

// Status tells how the versions of a service are doing.
func (c *Cluster) Status(ctx context.Context, s spec.Service) ([]VersionStatus, error) {
	versions := s.ServedVersions()
	out := make([]VersionStatus, 0, len(versions))
	for _, v := range versions {
		status := VersionStatus{Version: v.Name, State: Absent}
		d, err := c.client.typed.AppsV1().Deployments(c.namespace).Get(ctx, backend(s, v), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			out = append(out, status)
			continue
		}
		if err != nil {
			return nil, explain("read the service "+s.Name, err)
		}
		pods, err := c.client.newestPods(ctx, d)
		if err != nil {
			return nil, err
		}
		status.State = Healthy
		done, doing := rolledOut(d)
		if !done {
			status.State, status.Problem = Transitioning, doing
		}
		status.Desired, status.Updated, status.Ready = 1, d.Status.UpdatedReplicas, d.Status.AvailableReplicas
		if d.Spec.Replicas != nil {
			status.Desired = *d.Spec.Replicas
		}
		status.Image = d.Spec.Template.Spec.Containers[0].Image
		for _, pod := range pods {
			for _, container := range pod.Status.ContainerStatuses {
				status.Restarts += container.RestartCount
			}
		}
		if p := diagnose(pods); p != nil && !done {
			status.Problem = string(p.reason) + ": " + p.message
			if p.reason == reconcile.ReasonUnschedulable {
				status.State = Unschedulable
			} else if p.fatal(time.Now(), time.Time{}) != nil {
				status.State = Failed
			}
		}
		out = append(out, status)
	}
	return out, nil
}
