package kube

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile"
)

const (
	// givesUpAfter is how often a container may crash before the rollout is called failed.
	givesUpAfter = 3
	// unschedulableFor is v1's: nodes may still be on their way for that long.
	unschedulableFor = 5 * time.Minute
	// imagePullFor leaves room for a registry that is restarted.
	imagePullFor = time.Minute
	logLines     = 10
	// detailTimeout bounds the search for a pod's last words once a rollout has failed.
	detailTimeout = 20 * time.Second
	maxLogLine    = 64 << 10
)

// rolledOut reads a Deployment as `kubectl rollout status` does.
func rolledOut(d *appsv1.Deployment) (bool, string) {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return false, "waiting for Kubernetes to take notice"
	case s.UpdatedReplicas < want:
		return false, fmt.Sprintf("%d of %d replicas started", s.UpdatedReplicas, want)
	case s.Replicas > s.UpdatedReplicas:
		return false, fmt.Sprintf("%d old replicas still to stop", s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < want:
		return false, fmt.Sprintf("%d of %d replicas ready", s.AvailableReplicas, want)
	}
	return true, ""
}

// waitRollout waits until every replica is of the newest revision and ready. It fails early
// when a pod shows that this will not happen, and says why with the pod's own last words.
// Until pullsBy an image that cannot be pulled shows nothing.
func (c *client) waitRollout(ctx context.Context, namespace, name string, pullsBy time.Time, progress func(string)) error {
	var last string
	var problem *podProblem
	looked := time.Now()
	rollouts := c.rolloutsIn(namespace)
	leave := rollouts.enter()
	defer leave()
	err := poll(ctx, func() (bool, error) {
		d, err := rollouts.read(ctx, name)
		if err != nil {
			return false, passing(explain("read", err))
		}
		done, status := rolledOut(d)
		if done {
			return true, nil
		}
		if time.Since(looked) >= rollouts.patience() {
			looked = time.Now()
			pods, err := c.newestPods(ctx, d)
			if err != nil {
				return false, passing(err)
			}
			problem = diagnose(pods)
		}
		if problem != nil {
			status += ": " + problem.message
		}
		if status != last {
			progress(status)
			last = status
		}
		return false, problem.fatal(time.Now(), pullsBy)
	})
	if err == nil {
		return nil
	}
	if reason := reconcile.ReasonOf(err); reason != "" && reason != reconcile.ReasonNotHealthy {
		return err // it could not be looked at
	}
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonNotHealthy, Err: fmt.Errorf("not ready: %s: %w", cmp.Or(last, "nothing was seen of it"), err), Hint: reconcile.HintOf(err),
	}
	if problem != nil {
		detail, stop := context.WithTimeout(context.WithoutCancel(ctx), detailTimeout)
		defer stop()
		failure.Reason = problem.reason
		failure.Err = fmt.Errorf("%s: pod %s: %s%s%s", problem.reason, problem.pod.Name, problem.message,
			c.lastEvent(detail, namespace, "Pod", problem.pod.Name), c.lastWords(detail, problem.pod))
		failure.Hint = problem.hint
	}
	return failure
}

// newestPods are those of the Deployment's newest ReplicaSet.
func (c *client) newestPods(ctx context.Context, d *appsv1.Deployment) ([]corev1.Pod, error) {
	selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return nil, err
	}
	options := metav1.ListOptions{LabelSelector: selector.String(), Limit: pageSize}
	sets, err := c.typed.AppsV1().ReplicaSets(d.Namespace).List(ctx, options)
	if err != nil {
		return nil, explain("list replica sets", err)
	}
	pods, err := c.typed.CoreV1().Pods(d.Namespace).List(ctx, options)
	if err != nil {
		return nil, explain("list pods", err)
	}
	revision := d.Annotations["deployment.kubernetes.io/revision"]
	newest := ""
	for _, set := range sets.Items {
		if set.Annotations["deployment.kubernetes.io/revision"] == revision {
			newest = set.Labels["pod-template-hash"]
		}
	}
	return slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool {
		return p.Labels["pod-template-hash"] != newest || p.DeletionTimestamp != nil
	}), nil
}

// podProblem is why a pod is not ready.
type podProblem struct {
	pod     *corev1.Pod
	reason  reconcile.Reason
	message string
	hint    string
	since   time.Time
	crashes int32
}

// diagnose gives the worst problem among pods; nil when they are only on their way.
func diagnose(pods []corev1.Pod) *podProblem {
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for i := range pods {
		pod := &pods[i]
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse && condition.Reason == corev1.PodReasonUnschedulable {
				return &podProblem{pod: pod, reason: reconcile.ReasonUnschedulable, message: condition.Message, since: condition.LastTransitionTime.Time,
					hint: unschedulableHint(condition.Message)}
			}
		}
		for _, container := range pod.Status.ContainerStatuses {
			waiting := container.State.Waiting
			if waiting == nil {
				continue
			}
			switch waiting.Reason {
			case "ErrImagePull", "ImagePullBackOff", "InvalidImageName":
				return &podProblem{pod: pod, reason: reconcile.ReasonImagePull, message: waiting.Message, since: pod.CreationTimestamp.Time,
					hint: "may the cluster's kubelet pull from the registry (role AcrPull)?"}
			case "CrashLoopBackOff", "RunContainerError", "CreateContainerConfigError", "CreateContainerError":
				message := waiting.Reason
				if ended := container.LastTerminationState.Terminated; ended != nil {
					message = fmt.Sprintf("its process ended with code %d", ended.ExitCode)
				}
				return &podProblem{pod: pod, reason: reconcile.ReasonCrashLoop, message: message, crashes: max(container.RestartCount, 1),
					hint: "the last lines it logged usually say why: a wrong model path, or a package that is not in the image"}
			}
		}
	}
	return nil
}

// unschedulableHint says what to do about what the scheduler says. AKS installs the drivers of
// accelerators, and not what makes Kubernetes count them (learn.microsoft.com, "Use GPUs on AKS").
func unschedulableHint(message string) string {
	for _, accelerator := range []struct{ resource, plugin string }{{string(resourceGPU), "NVIDIA"}, {resourceFPGA, "Xilinx"}} {
		if strings.Contains(message, "Insufficient "+accelerator.resource) {
			return "the nodes show too few " + accelerator.resource + ": is the " + accelerator.plugin +
				" device plugin installed in the cluster? kubectl describe nodes shows it; if it is, raise agentCount of that pool"
		}
	}
	return "no node has room for it: raise agentCount, take a bigger vmSize, or ask for less under resources"
}

// fatal tells, by an error, that there is no point in waiting longer.
func (p *podProblem) fatal(now, pullsBy time.Time) error {
	switch {
	case p == nil:
		return nil
	case p.reason == reconcile.ReasonUnschedulable && now.Sub(p.since) < unschedulableFor,
		p.reason == reconcile.ReasonImagePull && (now.Sub(p.since) < imagePullFor || now.Before(pullsBy)),
		p.reason == reconcile.ReasonCrashLoop && p.crashes < givesUpAfter:
		return nil
	}
	return fmt.Errorf("%s", p.message)
}

// lastEvent is the newest warning about an object, as the end of a sentence.
func (c *client) lastEvent(ctx context.Context, namespace, kind, name string) string {
	events, err := c.typed.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "type=Warning,involvedObject.kind=" + kind + ",involvedObject.name=" + name, Limit: pageSize,
	})
	if err != nil || len(events.Items) == 0 {
		return ""
	}
	newest := slices.MaxFunc(events.Items, func(a, b corev1.Event) int {
		return cmp.Compare(a.LastTimestamp.Unix(), b.LastTimestamp.Unix())
	})
	return "\n  event: " + newest.Reason + ": " + newest.Message
}

// lastWords are the last lines that the pod's container logged before it ended.
func (c *client) lastWords(ctx context.Context, pod *corev1.Pod) string {
	var out strings.Builder
	for _, previous := range []bool{true, false} {
		n := int64(logLines)
		stream, err := c.typed.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &n, Previous: previous}).Stream(ctx)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(io.LimitReader(stream, maxLogLine))
		for lines.Scan() {
			out.WriteString("\n  log: " + lines.Text())
		}
		stream.Close()
		if out.Len() > 0 {
			break
		}
	}
	return out.String()
}

// logs copies the logs of all pods with the label, line by line.
func (c *client) logs(ctx context.Context, w io.Writer, namespace, selector string, tail int64, follow bool) error {
	pods, err := c.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return explain("list pods", err)
	}
	if len(pods.Items) == 0 {
		return &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: fmt.Errorf("no replica is running"), Hint: "amlaks status says how the service is doing"}
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	var mu sync.Mutex
	var wait sync.WaitGroup
	errs := make([]error, len(pods.Items))
	for i, pod := range pods.Items {
		copyLog := func() {
			stream, err := c.typed.CoreV1().Pods(namespace).GetLogs(pod.Name, &corev1.PodLogOptions{TailLines: &tail, Follow: follow}).Stream(ctx)
			if err != nil {
				errs[i] = explain("read the log of "+pod.Name, err)
				return
			}
			defer stream.Close()
			lines := bufio.NewScanner(stream)
			lines.Buffer(nil, maxLogLine)
			for lines.Scan() {
				mu.Lock()
				fmt.Fprintf(w, "%s %s\n", pod.Name, lines.Text())
				mu.Unlock()
			}
		}
		if follow {
			wait.Go(copyLog)
			continue
		}
		copyLog()
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
