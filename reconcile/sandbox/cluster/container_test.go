package cluster

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

func podOf(t *testing.T, client kubernetes.Interface, name string) (*corev1.Pod, error) {
	t.Helper()
	return client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{})
}

func isTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// A container whose liveness probe fails is ended, as asked, and started again.
func testLiveness(t *testing.T, client kubernetes.Interface, image string) {
	pod := simplePod("sick", image)
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "http", ContainerPort: 5001}}
	pod.Spec.Containers[0].LivenessProbe = &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}},
		PeriodSeconds: 1, FailureThreshold: 2,
	}
	create(t, client, pod)
	eventually(t, "the pod falls sick", func() error {
		p, err := podOf(t, client, "sick")
		if err == nil {
			_, err = get(net.JoinHostPort(p.Status.PodIP, "5001"), "/sicken")
		}
		return err
	})
	eventually(t, "the container again", func() error {
		p, err := podOf(t, client, "sick")
		if err != nil {
			return err
		}
		s := p.Status.ContainerStatuses[0]
		last := s.LastTerminationState.Terminated
		if !s.Ready || s.RestartCount != 1 || last == nil || last.Message != "failed liveness probe" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	if got, err := logsOf(t, client, "sick", &corev1.PodLogOptions{Previous: true}); err != nil || got != "starting as sick\nasked to end\n" {
		t.Errorf("the first run's log is %q, %v", got, err)
	}
	eventually(t, "the events", func() error {
		list, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{FieldSelector: "involvedObject.name=sick"})
		if err != nil {
			return err
		}
		said := map[string]string{}
		for _, e := range list.Items {
			said[e.Reason] = e.Message
		}
		if !strings.Contains(said["Unhealthy"], "Liveness probe failed: HTTP probe failed with statuscode: 500") ||
			said["Killing"] != "Container server failed liveness probe, will be restarted" {
			return fmt.Errorf("events %v", said)
		}
		return nil
	})
	remove(t, client, "sick")
}

// Init containers run one after the other, each until it succeeds, and then
// the others begin.
func testInit(t *testing.T, client kubernetes.Interface, image string) {
	mount := []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}}
	with := func(name string, policy corev1.RestartPolicy, inits ...string) *corev1.Pod {
		pod := simplePod(name, image)
		pod.Spec.RestartPolicy = policy
		pod.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		pod.Spec.Containers[0].VolumeMounts = mount
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 5001}}
		for _, init := range inits {
			pod.Spec.InitContainers = append(pod.Spec.InitContainers,
				corev1.Container{Name: init, Image: image, Args: []string{"init", init}, VolumeMounts: mount})
		}
		return pod
	}
	create(t, client, with("prepared", corev1.RestartPolicyAlways, "first", "flaky", "last"))
	eventually(t, "the prepared pod", func() error {
		p, err := podOf(t, client, "prepared")
		if err != nil {
			return err
		}
		if !isTrue(p, corev1.PodReady) {
			return fmt.Errorf("status %+v", p.Status)
		}
		r, err := ask(net.JoinHostPort(p.Status.PodIP, "5001"))
		if err != nil {
			return err
		}
		if r.Prepared != "first\nflaky\nlast\n" {
			return fmt.Errorf("prepared by %q", r.Prepared)
		}
		return nil
	})
	p, err := podOf(t, client, "prepared")
	if err != nil {
		t.Fatal(err)
	}
	if !isTrue(p, corev1.PodInitialized) {
		t.Error("the pod is ready and not initialized")
	}
	for i, s := range p.Status.InitContainerStatuses {
		if want := int32(i % 2); s.State.Terminated == nil || s.State.Terminated.ExitCode != 0 || !s.Ready || s.RestartCount != want {
			t.Errorf("init container %s is %+v, want it to have ended well after %d restarts", s.Name, s, want)
		}
	}
	remove(t, client, "prepared")

	create(t, client, with("unprepared", corev1.RestartPolicyNever, "first", "flaky", "last"))
	eventually(t, "the unprepared pod has failed", func() error {
		p, err = podOf(t, client, "unprepared")
		if err == nil && p.Status.Phase != corev1.PodFailed {
			err = errors.New(string(p.Status.Phase))
		}
		return err
	})
	if isTrue(p, corev1.PodInitialized) {
		t.Error("a pod whose init container failed is initialized")
	}
	if s := p.Status.InitContainerStatuses[1].State.Terminated; s == nil || s.ExitCode != 4 {
		t.Errorf("the init container that fails is %+v", p.Status.InitContainerStatuses[1])
	}
	for _, s := range []corev1.ContainerStatus{p.Status.InitContainerStatuses[2], p.Status.ContainerStatuses[0]} {
		if s.State.Waiting == nil || s.State.Waiting.Reason != "PodInitializing" || s.ContainerID != "" {
			t.Errorf("container %s is %+v, want it never to have begun", s.Name, s)
		}
	}
	remove(t, client, "unprepared")
}
