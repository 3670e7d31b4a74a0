package kube

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/amlaks/amlaks/reconcile"
)

// A pod without a place: the messages are those of kube-scheduler.
func TestUnschedulable(t *testing.T) {
	for message, want := range map[string]string{
		"0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod.":                  "raise agentCount, take a bigger vmSize",
		"0/4 nodes are available: 1 Insufficient nvidia.com/gpu, 3 node(s) had untolerated taint {CriticalAddonsOnly: true}.":                                "NVIDIA device plugin",
		"0/2 nodes are available: 1 Insufficient xilinx.com/fpga-xilinx_u250_gen3x16_xdma_shell_2_1-0, 1 node(s) didn't match Pod's node affinity/selector.": "Xilinx device plugin",
	} {
		pod := corev1.Pod{Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: message,
		}}}}
		problem := diagnose([]corev1.Pod{pod})
		if problem == nil || problem.reason != reconcile.ReasonUnschedulable || problem.message != message || !strings.Contains(problem.hint, want) {
			t.Errorf("%s: %+v, want a hint with %q", message, problem, want)
		}
	}
}
