package kubelet

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// status is the pod's, made from what is known now; w.mu is held.
func (w *workload) status() corev1.PodStatus {
	s := corev1.PodStatus{
		Phase:     w.phase(),
		HostIP:    w.p.HostIP,
		HostIPs:   []corev1.HostIP{{IP: w.p.HostIP}},
		StartTime: &w.started,
		QOSClass:  w.pod.Status.QOSClass,
	}
	if w.ip != "" {
		s.PodIP, s.PodIPs = w.ip, []corev1.PodIP{{IP: w.ip}}
	}
	initialized := !w.failed
	for _, c := range w.inits {
		s.InitContainerStatuses = append(s.InitContainerStatuses, c.status())
		initialized = initialized && c.endedWell()
	}
	ready := len(w.containers) > 0
	for _, c := range w.containers {
		cs := c.status()
		s.ContainerStatuses = append(s.ContainerStatuses, cs)
		ready = ready && cs.Ready
	}
	reason, message := "", ""
	if !ready {
		reason, message = "ContainersNotReady", "not all containers are ready"
	}
	for _, c := range []struct {
		kind            corev1.PodConditionType
		yes             bool
		reason, message string
	}{
		{corev1.PodReadyToStartContainers, w.box != nil, "", w.problem},
		{corev1.PodInitialized, initialized, "", ""},
		{corev1.ContainersReady, ready, reason, message},
		{corev1.PodReady, ready, reason, message},
	} {
		s.Conditions = append(s.Conditions, w.condition(c.kind, c.yes, c.reason, c.message))
	}
	return s
}

// condition keeps the time of the last change.
func (w *workload) condition(kind corev1.PodConditionType, yes bool, reason, message string) corev1.PodCondition {
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	out := corev1.PodCondition{Type: kind, Status: status, Reason: reason, Message: message, LastTransitionTime: metav1.Now()}
	for i, old := range w.pod.Status.Conditions {
		if old.Type == kind {
			if old.Status == status {
				out.LastTransitionTime = old.LastTransitionTime
			}
			w.pod.Status.Conditions[i] = out
			return out
		}
	}
	w.pod.Status.Conditions = append(w.pod.Status.Conditions, out)
	return out
}

func (w *workload) phase() corev1.PodPhase {
	if w.failed {
		return corev1.PodFailed
	}
	var waiting, ended, bad int
	for _, c := range w.containers {
		switch {
		case c.final && c.lastCode != 0:
			ended, bad = ended+1, bad+1
		case c.final:
			ended++
		case c.restarts == 0 && c.state.Waiting != nil:
			waiting++
		}
	}
	switch {
	case ended == len(w.containers) && bad > 0:
		return corev1.PodFailed
	case ended == len(w.containers):
		return corev1.PodSucceeded
	case waiting > 0:
		return corev1.PodPending
	}
	return corev1.PodRunning
}
