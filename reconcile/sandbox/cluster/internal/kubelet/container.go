package kubelet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/images"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// The reason of a container that has not been tried yet, in a pod without and
// with init containers.
const (
	creating     = "ContainerCreating"
	initializing = "PodInitializing"
)

// Back-off of pulls and restarts. The kubelet begins at ten seconds; here a
// person waits at the terminal.
const (
	firstBackoff = time.Second
	lastBackoff  = 5 * time.Minute
	forgetAfter  = 10 * time.Minute
	configRetry  = 2 * time.Second
)

// container is one of a pod. Fields below the line are guarded by the pod's lock.
type container struct {
	w    *workload
	spec *corev1.Container
	init bool

	// ---
	state, last corev1.ContainerState
	restarts    int32
	ready       bool
	startedUp   bool // the startup probe has succeeded, or there is none
	final       bool // not to be started again
	lastCode    int32
	image       images.Image
	log         *logFile
}

func newContainer(w *workload, spec *corev1.Container, before []corev1.ContainerStatus, init bool) *container {
	c := &container{w: w, spec: spec, init: init}
	c.state.Waiting = &corev1.ContainerStateWaiting{Reason: creating}
	if len(w.spec.InitContainers) > 0 {
		c.state.Waiting.Reason = initializing
	}
	// A pod that was here before the sandbox was killed is run again.
	for _, s := range before {
		if s.Name == spec.Name && s.ContainerID != "" {
			c.restarts = s.RestartCount
			if !init {
				c.restarts++
			}
			c.last.Terminated = s.State.Terminated
			if r := s.State.Running; r != nil {
				c.last.Terminated = &corev1.ContainerStateTerminated{
					ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "The node was restarted",
					StartedAt: r.StartedAt, FinishedAt: metav1.Now(), ContainerID: s.ContainerID,
				}
			}
		}
	}
	return c
}

// errEnding says that the pod is ending; it is nobody's fault.
var errEnding = errors.New("the pod is ending")

// run starts the container, and again as the pod's restart policy has it.
func (c *container) run() {
	backoff := firstBackoff
	for {
		began := time.Now()
		code, err := c.once()
		if errors.Is(err, errEnding) || c.w.ctx.Err() != nil {
			return
		}
		if !c.again(code) {
			c.w.set(func() { c.final = true })
			return
		}
		if time.Since(began) > forgetAfter {
			backoff = firstBackoff
		}
		c.w.set(func() {
			c.last = c.state
			c.state = waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				backoff, c.spec.Name, c.w.name, c.w.namespace, c.w.uid))
		})
		c.w.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s_%s(%s)",
			c.spec.Name, c.w.name, c.w.namespace, c.w.uid)
		if !c.sleep(backoff) {
			return
		}
		backoff = min(2*backoff, lastBackoff)
		c.w.mu.Lock()
		c.restarts++
		c.w.mu.Unlock()
	}
}

func (c *container) again(code int32) bool {
	policy := c.w.spec.RestartPolicy
	if c.init && policy == corev1.RestartPolicyAlways {
		policy = corev1.RestartPolicyOnFailure
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}

func (c *container) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.w.ctx.Done():
		return false
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// once runs the container from its image to its end.
func (c *container) once() (int32, error) {
	image, err := c.pull()
	if err != nil {
		return 0, err
	}
	var spec isolate.Container
	for {
		if spec, err = c.prepare(image); err == nil {
			break
		}
		if c.w.ctx.Err() != nil {
			return 0, errEnding
		}
		c.w.set(func() { c.state = waiting("CreateContainerConfigError", err.Error()) })
		c.w.event(corev1.EventTypeWarning, "Failed", "Error: %v", err)
		if !c.sleep(configRetry) {
			return 0, errEnding
		}
	}
	proc, finishLog, err := c.start(spec)
	if err != nil {
		if c.w.ctx.Err() != nil {
			return 0, errEnding
		}
		now := metav1.Now()
		c.w.set(func() {
			c.lastCode = 128
			c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 128, Reason: "StartError", Message: err.Error(), StartedAt: now, FinishedAt: now, ContainerID: c.id()}}
		})
		c.w.event(corev1.EventTypeWarning, "Failed", "Error: %v", err)
		return 128, nil
	}
	began := metav1.Now()
	c.w.set(func() {
		c.state = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: began}}
		c.startedUp = c.spec.StartupProbe == nil
		c.ready = c.startedUp && c.spec.ReadinessProbe == nil
	})
	c.w.event(corev1.EventTypeNormal, "Started", "Started container %s", c.spec.Name)
	message := c.attend(proc)
	finishLog()
	code := int32(proc.ExitCode())
	c.w.set(func() {
		c.ready, c.startedUp, c.lastCode = false, false, code
		t := &corev1.ContainerStateTerminated{
			ExitCode: code, Reason: "Completed", Message: message, StartedAt: began, FinishedAt: metav1.Now(), ContainerID: c.id()}
		if code != 0 {
			t.Reason = "Error"
			if message == "" && c.spec.TerminationMessagePolicy == corev1.TerminationMessageFallbackToLogsOnError {
				t.Message = c.log.tail(2048)
			}
		}
		c.state = corev1.ContainerState{Terminated: t}
	})
	return code, nil
}

// pull gets the image, for as long as it takes.
func (c *container) pull() (images.Image, error) {
	backoff := firstBackoff
	for {
		began := time.Now()
		image, err := c.w.p.Images.Get(c.w.ctx, c.spec.Image)
		if err == nil {
			c.w.event(corev1.EventTypeNormal, "Pulled", "Successfully pulled image %q in %s", c.spec.Image, time.Since(began).Round(time.Millisecond))
			c.w.mu.Lock()
			c.image = image
			c.w.mu.Unlock()
			return image, nil
		}
		if c.w.ctx.Err() != nil {
			return image, errEnding
		}
		c.w.set(func() { c.state = waiting("ErrImagePull", err.Error()) })
		c.w.event(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %v", c.spec.Image, err)
		// Long enough for whoever watches to see the cause.
		if !c.sleep(backoff / 2) {
			return image, errEnding
		}
		c.w.set(func() {
			c.state = waiting("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %v", c.spec.Image, err))
		})
		c.w.event(corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", c.spec.Image)
		if !c.sleep(backoff / 2) {
			return image, errEnding
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// start starts the process with its output going to the log.
func (c *container) start(spec isolate.Container) (*isolate.Process, func(), error) {
	c.w.mu.Lock()
	box, restarts := c.w.box, c.restarts
	c.w.mu.Unlock()
	if box == nil {
		return nil, nil, errEnding
	}
	log, err := createLog(c.w.logName(c.spec.Name, restarts))
	if err != nil {
		return nil, nil, err
	}
	if restarts > 1 {
		removeLog(c.w.logName(c.spec.Name, restarts-2))
	}
	outRead, out, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	errRead, errOut, err := os.Pipe()
	if err != nil {
		outRead.Close()
		out.Close()
		return nil, nil, err
	}
	copied := make(chan struct{}, 2)
	go func() { log.copy("stdout", outRead); copied <- struct{}{} }()
	go func() { log.copy("stderr", errRead); copied <- struct{}{} }()
	c.w.mu.Lock()
	c.log = log
	c.w.mu.Unlock()
	proc, err := box.Run(spec, out, errOut)
	out.Close()
	errOut.Close()
	finish := func() { <-copied; <-copied; log.close() }
	if err != nil {
		finish()
		return nil, nil, err
	}
	return proc, finish, nil
}

// attend probes the process until it ends or is made to, and says why it was.
func (c *container) attend(proc *isolate.Process) (message string) {
	ctx, cancel := context.WithCancel(c.w.ctx)
	defer cancel()
	unhealthy := make(chan string, 1)
	go c.probe(ctx, unhealthy)
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if g := c.w.spec.TerminationGracePeriodSeconds; g != nil {
		grace = *g
	}
	select {
	case <-proc.Done():
		return ""
	case message = <-unhealthy:
		c.w.event(corev1.EventTypeNormal, "Killing", "Container %s %s, will be restarted", c.spec.Name, message)
		c.end(proc, time.Duration(grace)*time.Second)
	case <-c.w.ctx.Done():
		c.w.mu.Lock()
		d, quiet := c.w.grace, c.w.abandoned
		c.w.mu.Unlock()
		if !quiet {
			c.w.event(corev1.EventTypeNormal, "Killing", "Stopping container %s", c.spec.Name)
		}
		c.end(proc, d)
	}
	return message
}

// end asks the process to end, and makes it after grace.
func (c *container) end(proc *isolate.Process, grace time.Duration) {
	deadline, cancel := context.WithTimeout(c.w.kill, grace)
	defer cancel()
	c.preStop(deadline)
	proc.Signal(syscall.SIGTERM)
	select {
	case <-proc.Done():
		return
	case <-deadline.Done():
	}
	proc.Signal(syscall.SIGKILL)
	<-proc.Done()
}

func (c *container) preStop(ctx context.Context) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	switch h := c.spec.Lifecycle.PreStop; {
	case h.Sleep != nil:
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second):
		}
	case h.HTTPGet != nil:
		if err := c.httpGet(ctx, h.HTTPGet); err != nil {
			c.w.event(corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: %v", err)
		}
	case h.Exec != nil:
		c.w.event(corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed: this node runs no exec hooks")
	}
}

func (c *container) id() string {
	return "amlaks://" + string(c.w.uid) + "-" + c.spec.Name + "-" + strconv.Itoa(int(c.restarts))
}

func (c *container) succeeded() bool {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	return c.endedWell()
}

// endedWell is for init containers; the pod's lock is held.
func (c *container) endedWell() bool { return c.final && c.lastCode == 0 }

// status is the container's; the pod's lock is held.
func (c *container) status() corev1.ContainerStatus {
	started := c.startedUp
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, RestartCount: c.restarts,
		State: *c.state.DeepCopy(), LastTerminationState: *c.last.DeepCopy(),
		Ready: c.ready && c.state.Running != nil, Started: &started,
	}
	if c.init {
		s.Ready = c.endedWell()
	}
	if c.image.Digest != "" {
		s.ImageID = imageID(c.spec.Image, c.image.Digest)
	}
	if c.state.Running != nil || c.state.Terminated != nil || c.last.Terminated != nil {
		s.ContainerID = c.id()
	}
	return s
}
