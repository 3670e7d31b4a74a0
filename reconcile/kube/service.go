package kube

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	apps "k8s.io/client-go/applyconfigurations/apps/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"
	meta "k8s.io/client-go/applyconfigurations/meta/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// scoringUser runs scoring containers: nobody in particular, and not root.
const scoringUser = 65532

// KeysSecret is the Secret that holds a service's keys.
func KeysSecret(service string) string { return service + "-keys" }

// Audience is what a Kubernetes token for a service is issued for.
func Audience(namespace, service string) string { return "amlaks:" + namespace + "/" + service }

// backend is the name of a version's Deployment and Service.
func backend(s spec.Service, v spec.Version) string {
	if len(s.Versions) == 0 {
		return s.Name
	}
	return s.Name + "-" + v.Name
}

// service renders one scoring service.
func (r *renderer) service(s spec.Service) {
	labels := r.labels(s.Name)
	labels[LabelService] = s.Name
	o := object{namespace: r.namespace, name: s.Name}
	o.kind = kindServiceAccount
	r.add(o, core.ServiceAccount(s.Name, r.namespace).WithLabels(labels).WithAutomountServiceAccountToken(false), "identity of the service")
	if s.AuthMode == spec.AuthKey {
		secretLabels := maps.Clone(labels)
		secretLabels[LabelKeys] = "true"
		name := KeysSecret(s.Name)
		r.add(object{kind: kindSecret, namespace: r.namespace, name: name, keys: true},
			core.Secret(name, r.namespace).WithLabels(secretLabels).WithType(corev1.SecretTypeOpaque), "primary and secondary key, generated")
	}
	for _, v := range s.ServedVersions() {
		r.version(s, v, labels)
	}
}

// version renders the Deployment of one version, and the Service that lists its replicas.
func (r *renderer) version(s spec.Service, v spec.Version, labels map[string]string) {
	name := backend(s, v)
	selector := map[string]string{labelName: name, LabelStack: r.driver.stack.Name}
	labels = maps.Clone(labels)
	labels[labelName] = name
	r.add(object{kind: kindService, namespace: r.namespace, name: name},
		core.Service(name, r.namespace).WithLabels(labels).WithSpec(core.ServiceSpec().
			WithClusterIP(corev1.ClusterIPNone).WithSelector(selector).
			WithPorts(core.ServicePort().WithName("scoring").WithPort(int32(v.Inference.Port)).
				WithTargetPort(intstr.FromInt32(int32(v.Inference.Port))).WithProtocol(corev1.ProtocolTCP))),
		"lists the replicas for the front end")

	dependencies := []reconcile.Address{r.here(kindServiceAccount, s.Name), r.here(kindService, name)}
	if len(secretEnvironment(name, v)) > 0 {
		r.secrets(name, v, labels)
		dependencies = append(dependencies, r.here(kindSecret, secretsName(name)))
	}
	deployment := apps.DeploymentSpec().
		WithSelector(meta.LabelSelector().WithMatchLabels(selector)).
		WithStrategy(rollingUpdate()).
		WithTemplate(core.PodTemplateSpec().WithLabels(labels).WithSpec(r.pod(s, v)))
	replicas, _ := replicaRange(s)
	deployment.WithReplicas(int32(replicas))
	r.add(object{kind: kindDeployment, namespace: r.namespace, name: name},
		apps.Deployment(name, r.namespace).WithLabels(labels).WithSpec(deployment),
		fmt.Sprintf("%s of %s, %s vCPU, %s GiB", count(replicas, "replica"), strings.Join(modelNames(v.Models), " + "),
			decimal(s.Resources.CPU), decimal(s.Resources.MemoryInGB)),
		dependencies...)
	r.setImage(r.driver.wiring.Image(s.Name, v.Name))
}

// leaves is for how many seconds a replica goes on as before when it is to end: the front ends
// hear of it through the endpoints, and what is on its way to it by then must still be answered.
// A Kubernetes before 1.30 leaves it out.
const leaves = 5

func (r *renderer) pod(s spec.Service, v spec.Version) *core.PodSpecApplyConfiguration {
	timeout := int64(math.Ceil(float64(s.ScoringTimeoutMs) / 1000))
	environment := map[string]string{
		// One field drives both: gunicorn's own worker timeout would otherwise cut a long
		// request before the script's (microsoft/azure-pipelines-tasks#16052).
		"SCORING_TIMEOUT_MS": strconv.Itoa(s.ScoringTimeoutMs),
		"WORKER_TIMEOUT":     strconv.FormatInt(timeout+5, 10),
		"WORKER_COUNT":       strconv.Itoa(s.MaxConcurrentRequestsPerContainer),
		"SERVICE_NAME":       s.Name,
	}
	maps.Copy(environment, v.Inference.EnvironmentVariables)
	port := intstr.FromInt32(int32(v.Inference.Port))
	get := func(path string) *core.ProbeApplyConfiguration {
		return core.Probe().WithHTTPGet(core.HTTPGetAction().WithPath(path).WithPort(port).WithScheme(corev1.URISchemeHTTP)).
			WithTimeoutSeconds(int32(s.Liveness.TimeoutSeconds))
	}
	container := core.Container().WithName("scoring").
		WithPorts(core.ContainerPort().WithName("scoring").WithContainerPort(int32(v.Inference.Port)).WithProtocol(corev1.ProtocolTCP)).
		WithResources(resources(s.Resources)).
		WithReadinessProbe(get(v.Inference.Routes.Readiness).WithPeriodSeconds(2)).
		WithLivenessProbe(get(v.Inference.Routes.Liveness).
			WithInitialDelaySeconds(int32(s.Liveness.InitialDelaySeconds)).
			WithPeriodSeconds(int32(s.Liveness.PeriodSeconds)).
			WithFailureThreshold(int32(s.Liveness.FailureThreshold))).
		WithLifecycle(core.Lifecycle().WithPreStop(core.LifecycleHandler().WithSleep(core.SleepAction().WithSeconds(leaves)))).
		WithSecurityContext(restrictedContainer()).
		WithVolumeMounts(core.VolumeMount().WithName("tmp").WithMountPath("/tmp"))
	for _, name := range slices.Sorted(maps.Keys(environment)) {
		container.WithEnv(core.EnvVar().WithName(name).WithValue(environment[name]))
	}
	container.WithEnv(secretEnvironment(backend(s, v), v)...)
	pod := core.PodSpec().
		WithServiceAccountName(s.Name).WithAutomountServiceAccountToken(false).WithEnableServiceLinks(false).
		WithTerminationGracePeriodSeconds(leaves + timeout + 5).
		WithSecurityContext(restrictedPod()).
		WithContainers(container).
		WithVolumes(core.Volume().WithName("tmp").WithEmptyDir(core.EmptyDirVolumeSource()))
	// The taints that pools with accelerators have unless the file says others.
	if s.Resources.GPU > 0 {
		pod.WithTolerations(toleration(spec.TaintGPU))
	}
	if s.Resources.FPGA > 0 {
		pod.WithTolerations(toleration(spec.TaintFPGA))
	}
	return pod
}

// resourceFPGA is what Xilinx' device plugin calls the Alveo U250 of Azure's NP sizes, with the
// one shell that Azure takes (cluster-autoscaler's azure_template.go has the same name).
const resourceFPGA = "xilinx.com/fpga-xilinx_u250_gen3x16_xdma_shell_2_1-0"

// toleration is of a taint KEY=VALUE:NoSchedule.
func toleration(taint string) *core.TolerationApplyConfiguration {
	rest, effect, _ := strings.Cut(taint, ":")
	key, value, _ := strings.Cut(rest, "=")
	return core.Toleration().WithKey(key).WithOperator(corev1.TolerationOpEqual).WithValue(value).WithEffect(corev1.TaintEffect(effect))
}

// resources gives requests and limits; GB are GiB. A GPU or FPGA is always request and limit alike.
func resources(s spec.Resources) *core.ResourceRequirementsApplyConfiguration {
	amount := func(cpu, memory *float64) corev1.ResourceList {
		list := corev1.ResourceList{}
		if cpu != nil {
			list[corev1.ResourceCPU] = *resource.NewMilliQuantity(int64(math.Round(*cpu*1000)), resource.DecimalSI)
		}
		if memory != nil {
			list[corev1.ResourceMemory] = *resource.NewQuantity(int64(math.Round(*memory*(1<<30))), resource.BinarySI)
		}
		if s.GPU > 0 {
			list[resourceGPU] = *resource.NewQuantity(int64(s.GPU), resource.DecimalSI)
		}
		if s.FPGA > 0 {
			list[resourceFPGA] = *resource.NewQuantity(int64(s.FPGA), resource.DecimalSI)
		}
		return list
	}
	out := core.ResourceRequirements().WithRequests(amount(&s.CPU, &s.MemoryInGB))
	if limits := amount(s.CPULimit, s.MemoryInGBLimit); len(limits) > 0 {
		out.WithLimits(limits)
	}
	return out
}

func quantities(cpu, memory string) corev1.ResourceList {
	list := corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(memory)}
	if cpu != "" {
		list[corev1.ResourceCPU] = resource.MustParse(cpu)
	}
	return list
}

// rollingUpdate never takes a replica away before its successor answers. v1 did, and one
// replica meant downtime (Azure/azure-cli#18272).
func rollingUpdate() *apps.DeploymentStrategyApplyConfiguration {
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	return apps.DeploymentStrategy().WithRollingUpdate(apps.RollingUpdateDeployment().WithMaxUnavailable(none).WithMaxSurge(one))
}

func restrictedPod() *core.PodSecurityContextApplyConfiguration {
	return core.PodSecurityContext().WithRunAsNonRoot(true).WithRunAsUser(scoringUser).WithRunAsGroup(scoringUser).WithFSGroup(scoringUser).
		WithSeccompProfile(core.SeccompProfile().WithType(corev1.SeccompProfileTypeRuntimeDefault))
}

func restrictedContainer() *core.SecurityContextApplyConfiguration {
	return core.SecurityContext().WithReadOnlyRootFilesystem(true).WithAllowPrivilegeEscalation(false).
		WithCapabilities(core.Capabilities().WithDrop("ALL"))
}

func modelNames(models []spec.Model) []string {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name + ":" + m.Version
	}
	return names
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func decimal(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
