package kube

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	apps "k8s.io/client-go/applyconfigurations/apps/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"
	meta "k8s.io/client-go/applyconfigurations/meta/v1"
	rbac "k8s.io/client-go/applyconfigurations/rbac/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
	"github.com/amlaks/amlaks/spec"
)

// FrontEnd is the name of everything of the front end in a stack's namespace.
const FrontEnd = "amlaks-fe"

// What the front end asks for. azureml-fe asked 0.5 vCPU and 500 MiB; a Go proxy needs
// little (front-end notes, section 7). No CPU limit: throttling shows as latency.
const (
	frontEndCPU         = "100m"
	frontEndMemory      = "64Mi"
	frontEndMemoryLimit = "512Mi"
	frontEndPort        = 8080 // scoring
	frontEndAdminPort   = 8081 // health and metrics
	frontEndTLSPort     = 8443 // scoring over TLS; the other one is the front ends' own then
)

func (r *renderer) labels(name string) map[string]string {
	return map[string]string{LabelStack: r.driver.stack.Name, labelManaged: "amlaks", labelName: name}
}

// clusterObjects are the namespace and the front end.
func (r *renderer) clusterObjects() {
	labels := r.labels(FrontEnd)
	namespaceLabels := r.labels("amlaks")
	// Nothing in it needs more; what asks for more is refused by the API server.
	namespaceLabels["pod-security.kubernetes.io/enforce"] = "restricted"
	r.add(object{kind: kindNamespace, name: r.namespace}, core.Namespace(r.namespace).WithLabels(namespaceLabels), "namespace of the stack")

	fe := object{namespace: r.namespace, name: FrontEnd, frontEnd: true}
	fe.kind = kindServiceAccount
	r.add(fe, core.ServiceAccount(FrontEnd, r.namespace).WithLabels(labels), "identity of the front end")
	fe.kind = kindRole
	r.add(fe, rbac.Role(FrontEnd, r.namespace).WithLabels(labels).WithRules(
		rbac.PolicyRule().WithAPIGroups("").WithResources("configmaps").WithVerbs("get", "list", "watch").WithResourceNames(routes.ConfigMap),
		rbac.PolicyRule().WithAPIGroups("").WithResources("secrets").WithVerbs("get", "list", "watch"),
		rbac.PolicyRule().WithAPIGroups("discovery.k8s.io").WithResources("endpointslices").WithVerbs("get", "list", "watch"),
	), "reads routes, keys and endpoints of this namespace")
	fe.kind = kindRoleBinding
	r.add(fe, rbac.RoleBinding(FrontEnd, r.namespace).WithLabels(labels).
		WithRoleRef(rbac.RoleRef().WithAPIGroup("rbac.authorization.k8s.io").WithKind("Role").WithName(FrontEnd)).
		WithSubjects(rbac.Subject().WithKind("ServiceAccount").WithName(FrontEnd).WithNamespace(r.namespace)),
		"", r.here(kindRole, FrontEnd))
	if r.cluster.SSL != nil {
		r.tlsSecret(labels)
	}
	r.frontEndDeployment(labels)
	r.frontEndService(labels)
}

func (r *renderer) here(k kind, name string) reconcile.Address {
	return Address(r.cluster.Name, string(k), name)
}

func (r *renderer) frontEndDeployment(labels map[string]string) {
	selector := map[string]string{labelName: FrontEnd, LabelStack: r.driver.stack.Name}
	field := func(name, path string) *core.EnvVarApplyConfiguration {
		return core.EnvVar().WithName(name).WithValueFrom(core.EnvVarSource().WithFieldRef(
			core.ObjectFieldSelector().WithAPIVersion("v1").WithFieldPath(path)))
	}
	probe := func(path string) *core.ProbeApplyConfiguration {
		return core.Probe().WithHTTPGet(core.HTTPGetAction().WithPath(path).WithPort(intstr.FromInt32(frontEndAdminPort)).WithScheme(corev1.URISchemeHTTP))
	}
	container := core.Container().WithName(FrontEnd).
		WithEnv(field("POD_IP", "status.podIP"), field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace"),
			core.EnvVar().WithName("FE_SERVICE").WithValue(FrontEnd)).
		WithPorts(
			core.ContainerPort().WithName("scoring").WithContainerPort(frontEndPort).WithProtocol(corev1.ProtocolTCP),
			core.ContainerPort().WithName("admin").WithContainerPort(frontEndAdminPort).WithProtocol(corev1.ProtocolTCP)).
		WithReadinessProbe(probe("/readyz").WithPeriodSeconds(2)).
		WithLivenessProbe(probe("/healthz").WithPeriodSeconds(10)).
		WithResources(core.ResourceRequirements().
			WithRequests(quantities(frontEndCPU, frontEndMemory)).
			WithLimits(quantities("", frontEndMemoryLimit))).
		WithSecurityContext(restrictedContainer())
	dependencies := []reconcile.Address{r.here(kindServiceAccount, FrontEnd)}
	if r.cluster.SSL != nil {
		// It names the Secret and nothing in it, so that a new certificate rolls no pod.
		container.WithEnv(core.EnvVar().WithName("FE_TLS_SECRET").WithValue(TLSSecret)).
			WithPorts(core.ContainerPort().WithName("tls").WithContainerPort(frontEndTLSPort).WithProtocol(corev1.ProtocolTCP))
		dependencies = append(dependencies, r.here(kindSecret, TLSSecret))
	}
	r.add(object{kind: kindDeployment, namespace: r.namespace, name: FrontEnd, frontEnd: true},
		apps.Deployment(FrontEnd, r.namespace).WithLabels(labels).WithSpec(apps.DeploymentSpec().
			WithReplicas(int32(r.cluster.FrontEnd.Replicas)).
			WithSelector(meta.LabelSelector().WithMatchLabels(selector)).
			WithStrategy(rollingUpdate()).
			WithTemplate(core.PodTemplateSpec().WithLabels(labels).WithSpec(core.PodSpec().
				WithServiceAccountName(FrontEnd).WithEnableServiceLinks(false).
				WithTerminationGracePeriodSeconds(90).
				WithSecurityContext(restrictedPod()).
				WithContainers(container)))),
		"front end, "+count(r.cluster.FrontEnd.Replicas, "replica"), dependencies...)
	r.setImage(r.driver.wiring.FrontEndImage)
}

func (r *renderer) frontEndService(labels map[string]string) {
	target := int32(frontEndPort)
	annotations := map[string]string{}
	var dependencies []reconcile.Address
	if ssl := r.cluster.SSL; ssl != nil {
		target, annotations[annotationCName] = frontEndTLSPort, ssl.CName
		// From http to https: the new port is opened when those behind it listen there.
		dependencies = append(dependencies, r.here(kindDeployment, FrontEnd))
	}
	if label := r.cluster.FrontEnd.DNSLabel; label != "" {
		annotations[annotationDNSLabel] = label
	}
	service := core.ServiceSpec().WithSelector(map[string]string{labelName: FrontEnd, LabelStack: r.driver.stack.Name}).
		WithPorts(core.ServicePort().WithName("scoring").WithPort(int32(r.cluster.FrontEnd.Port)).
			WithTargetPort(intstr.FromInt32(target)).WithProtocol(corev1.ProtocolTCP)).
		WithType(corev1.ServiceTypeClusterIP)
	configuration := core.Service(FrontEnd, r.namespace).WithLabels(labels).WithSpec(service)
	what := "front end's address inside the cluster"
	if r.cluster.FrontEnd.Expose == spec.ExposeLoadBalancer {
		service.WithType(corev1.ServiceTypeLoadBalancer)
		what = "front end's public address"
		if r.cluster.LoadBalancerType == spec.InternalLoadBalancer {
			what = "front end's internal address"
			annotations["service.beta.kubernetes.io/azure-load-balancer-internal"] = "true"
			if r.cluster.LoadBalancerSubnet != "" {
				annotations["service.beta.kubernetes.io/azure-load-balancer-internal-subnet"] = r.cluster.LoadBalancerSubnet
			}
		}
	}
	if label := r.cluster.FrontEnd.DNSLabel; label != "" {
		what += ", named " + label
	}
	if r.cluster.SSL != nil {
		what += ", https://" + r.cluster.SSL.CName
	}
	r.add(object{kind: kindService, namespace: r.namespace, name: FrontEnd, frontEnd: true}, configuration.WithAnnotations(annotations), what, dependencies...)
	if r.cluster.FrontEnd.DNSLabel != "" && r.driver.wiring.Location != nil {
		r.place(placed{[]string{"metadata", "annotations", annotationRegion}, r.driver.wiring.Location(r.cluster.Name)})
	}
}

// routes is the table by which the front end knows the cluster's services.
func (r *renderer) routes() {
	table := routes.Table{Stack: r.driver.stack.Name, Services: []routes.Service{}}
	for _, s := range r.driver.stack.Services {
		if s.Cluster == r.cluster.Name {
			table.Services = append(table.Services, r.route(s))
		}
	}
	slices.SortFunc(table.Services, func(a, b routes.Service) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(table, "", "  ")
	if err != nil {
		r.err = err
		return
	}
	r.add(object{kind: kindConfigMap, namespace: r.namespace, name: routes.ConfigMap},
		core.ConfigMap(routes.ConfigMap, r.namespace).WithLabels(r.labels(FrontEnd)).WithData(map[string]string{routes.Key: string(data) + "\n"}),
		"routes of "+count(len(table.Services), "service"))
}

func (r *renderer) route(s spec.Service) routes.Service {
	route := routes.Service{
		Name: s.Name, AuthMode: string(s.AuthMode),
		ScoringTimeoutMs: s.ScoringTimeoutMs, MaxQueueWaitMs: s.MaxQueueWaitMs, MaxConcurrent: s.MaxConcurrentRequestsPerContainer,
	}
	switch s.AuthMode {
	case spec.AuthKey:
		route.KeysSecret = KeysSecret(s.Name)
	case spec.AuthToken:
		route.Token = &routes.Token{Issuer: spec.IssuerKubernetes, Audience: Audience(r.namespace, s.Name),
			Subject: "system:serviceaccount:" + r.namespace + ":" + s.Name}
		if s.Token != nil && s.Token.Entra != nil {
			route.Token = &routes.Token{Issuer: spec.IssuerEntra, Audience: s.Token.Entra.Audience, TenantID: s.Token.Entra.TenantID, Roles: s.Token.Entra.Roles}
		}
	}
	for _, v := range s.ServedVersions() {
		route.Versions = append(route.Versions, routes.Version{
			Name: v.Name, Backend: backend(s, v), Port: v.Inference.Port, ScoringPath: v.Inference.Routes.Scoring,
			Percent: v.TrafficPercentile, Default: v.IsDefault,
		})
	}
	return route
}

func isLoadBalancer(service *corev1.Service) bool {
	return service.Spec.Type == corev1.ServiceTypeLoadBalancer
}
