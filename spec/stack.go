// Package spec is amlaks.yaml: its types, and Load, which reads a file into a
// checked *Stack or says everything that is wrong with it.
//
// Load goes from bytes to a YAML tree that knows its lines, to the schema
// (package schema), to defaults, to the rules between fields, and looks for the
// files that the stack names. All faults are reported in one run, sorted by
// position and each once; what holds in the file but is unwise, or does nothing
// in this version (pending.go), is a warning and stops nobody.
//
// Stricter than YAML, so that every reader takes a file the same way: one
// document of UTF-8, at most 1 MiB; no anchors, aliases, merge keys or tags; no
// key twice; no unquoted yes, no, on, off, y, n; no number with a leading zero.
//
// Secrets are references. A value that looks like one is an error, and is
// masked in the excerpts of all diagnostics.
//
// The package knows no Azure and no Kubernetes: whether a VM size can be had in
// a region, or a model exists, is said at plan time.
package spec

import "slices"

// Stack is one amlaks.yaml: a workspace, the clusters a team runs and the
// scoring services on them. A *Stack that Load returned is complete: every
// field with a default has its value, every reference (a service's cluster)
// resolves, every rule of this package holds.
//
// Field names are the keys of the file. Sizes named InGB are GiB (2^30 bytes):
// v1 never said which it meant, and Kubernetes users expect the binary unit.
type Stack struct {
	APIVersion string `json:"apiVersion"`
	Name       string `json:"name"`
	Prune      bool   `json:"prune"`
	// MaxDeletes is how many resources one run may delete.
	MaxDeletes int       `json:"maxDeletes"`
	Workspace  Workspace `json:"workspace"`
	Clusters   []Cluster `json:"clusters"`
	Services   []Service `json:"services"`

	// Dir is the folder of the file, absolute: relative paths start there.
	Dir string `json:"-"`
}

// APIVersion is the only apiVersion this version of amlaks reads.
const APIVersion = "amlaks.io/v1"

// Workspace names the Azure ML workspace that holds the registered models.
type Workspace struct {
	SubscriptionID string `json:"subscriptionId"`
	ResourceGroup  string `json:"resourceGroup"`
	Name           string `json:"name"`
	// Location is a region's programmatic name (westeurope). Empty: the workspace's own.
	Location string `json:"location,omitempty"`
	// Registry is the login server images are pushed to. Empty: the workspace's own.
	Registry string `json:"registry,omitempty"`
	// Cloud is the az command's name of the Azure cloud.
	Cloud string `json:"cloud"`
	// GrantAcrPull lets the nodes of every cluster pull from the registry: role AcrPull.
	GrantAcrPull bool             `json:"grantAcrPull"`
	Create       *WorkspaceCreate `json:"create,omitempty"`
	// AllowAccountKeys lets registered models be read with the key of their storage account
	// where the identity's own token is refused.
	AllowAccountKeys bool `json:"allowAccountKeys"`
}

// The Azure clouds, as az cloud list names them.
const (
	PublicCloud = "AzureCloud"
	USGovCloud  = "AzureUSGovernment"
	ChinaCloud  = "AzureChinaCloud"
)

// WorkspaceCreate names what a new workspace is made of, in its own resource group. Each is made
// too if absent; none is ever changed or deleted.
type WorkspaceCreate struct {
	StorageAccount      string `json:"storageAccount"`
	KeyVault            string `json:"keyVault"`
	ApplicationInsights string `json:"applicationInsights,omitempty"`
	ContainerRegistry   string `json:"containerRegistry,omitempty"`
}

// Purpose is v1's cluster purpose: it sets the defaults for size and availability.
type Purpose string

// The cluster purposes of v1 (azureml-core AksCompute).
const (
	FastProd  Purpose = "FastProd"
	DenseProd Purpose = "DenseProd"
	DevTest   Purpose = "DevTest"
)

// Cluster is an AKS cluster: made by amlaks, or one that exists (Attach).
type Cluster struct {
	Name    string  `json:"name"`
	Purpose Purpose `json:"purpose"`
	// VMSize and AgentCount shape the cluster's own node pool.
	VMSize string `json:"vmSize,omitempty"`
	// AgentCount is nil when not owned: attached clusters, and pools under an autoscaler.
	AgentCount *int `json:"agentCount,omitempty"`
	// KubernetesVersion is a minor ("1.36") or a patch; empty means not owned.
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// Zones are the availability zones of the cluster's own pool: empty for none, nil when not
	// owned (attached and adopted clusters).
	Zones []int `json:"zones,omitzero"`
	// MaxPods is how many pods a node takes; nil when not owned.
	MaxPods            *int       `json:"maxPods,omitempty"`
	Identity           *Identity  `json:"identity,omitempty"`
	VNet               *VNet      `json:"vnet,omitempty"`
	LoadBalancerType   string     `json:"loadBalancerType"`
	LoadBalancerSubnet string     `json:"loadBalancerSubnet,omitempty"`
	PrivateCluster     bool       `json:"privateCluster,omitempty"`
	AuthorizedIPRanges []string   `json:"authorizedIpRanges,omitempty"`
	SSL                *SSL       `json:"ssl,omitempty"`
	NodePools          []NodePool `json:"nodePools,omitempty"`
	FrontEnd           FrontEnd   `json:"frontEnd"`
	Attach             *Attach    `json:"attach,omitempty"`
	AttachToWorkspace  bool       `json:"attachToWorkspace"`
	// Adopt takes over a cluster of this name that bears no stack's name.
	Adopt   bool `json:"adopt,omitempty"`
	Protect bool `json:"protect"`
	// DockerBridgeCIDR is accepted, warned about and ignored: AKS has dropped it.
	DockerBridgeCIDR string            `json:"dockerBridgeCidr,omitempty"`
	Tags             map[string]string `json:"tags,omitempty"`
}

// Load balancer types of v1.
const (
	PublicIP             = "PublicIp"
	InternalLoadBalancer = "InternalLoadBalancer"
)

// Identity is what a cluster acts as in Azure; without one Azure makes one for it
// (system-assigned).
type Identity struct {
	// UserAssigned is the resource ID of a user-assigned managed identity.
	UserAssigned string `json:"userAssigned"`
}

// VNet places the nodes in an existing subnet. All five fields or none.
type VNet struct {
	ResourceGroup string `json:"resourceGroup"`
	Name          string `json:"name"`
	Subnet        string `json:"subnet"`
	ServiceCIDR   string `json:"serviceCidr"`
	DNSServiceIP  string `json:"dnsServiceIP"`
}

// SSL makes the front end answer on https.
type SSL struct {
	CName       string      `json:"cname"`
	Certificate Certificate `json:"certificate"`
}

// Certificate refers to a certificate and its key; the PEM itself never stands in the file.
// Exactly one of KeyVault, and Files, is set.
type Certificate struct {
	// KeyVault is the URI of a Key Vault certificate, https://VAULT.vault.azure.net/certificates/NAME,
	// with a /VERSION behind it to stay with that one.
	KeyVault string            `json:"keyVault,omitempty"`
	Files    *CertificateFiles `json:"files,omitempty"`
}

// CertificateFiles are paths outside git, read where amlaks runs; relative ones start at the
// stack's file.
type CertificateFiles struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// NodePool is a further user pool of a cluster that amlaks made.
type NodePool struct {
	Name       string `json:"name"`
	VMSize     string `json:"vmSize"`
	AgentCount *int   `json:"agentCount,omitempty"`
	MinCount   *int   `json:"minCount,omitempty"`
	MaxCount   *int   `json:"maxCount,omitempty"`
	Spot       bool   `json:"spot,omitempty"`
	// Zones and MaxPods are as those of Cluster.
	Zones   []int `json:"zones,omitzero"`
	MaxPods *int  `json:"maxPods,omitempty"`
	// Labels and Taints of a pool with GPUs or FPGAs have defaults, which empty ones replace.
	Labels map[string]string `json:"labels,omitzero"`
	Taints []string          `json:"taints,omitzero"`
}

// FrontEnd is how the cluster's amlaks-fe is exposed.
type FrontEnd struct {
	// Expose is loadBalancer, gateway or clusterIP.
	Expose   string `json:"expose"`
	Replicas int    `json:"replicas"`
	// Port is the one clients connect to: 80, or 443 with ssl, unless set.
	Port int `json:"port"`
	// DNSLabel names the public address: LABEL.REGION.cloudapp.azure.com (v1's leafDomainLabel).
	DNSLabel string `json:"dnsLabel,omitempty"`
}

// Values of FrontEnd.Expose.
const (
	ExposeLoadBalancer = "loadBalancer"
	ExposeGateway      = "gateway"
	ExposeClusterIP    = "clusterIP"
)

// Attach names an AKS cluster that exists: ResourceGroup and ClusterName, or ResourceID.
type Attach struct {
	ResourceGroup string `json:"resourceGroup,omitempty"`
	ClusterName   string `json:"clusterName,omitempty"`
	ResourceID    string `json:"resourceId,omitempty"`
}

// Service is a scoring web service: a model behind one URL of a cluster's front end.
type Service struct {
	Name        string            `json:"name"`
	Cluster     string            `json:"cluster"`
	Description string            `json:"description,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Models and Inference are unset when Versions is set and each version brings its own.
	Models    []Model   `json:"models,omitempty"`
	Inference Inference `json:"inference,omitzero"`
	Resources Resources `json:"resources"`
	AuthMode  AuthMode  `json:"authMode"`
	// Token is set only with AuthToken.
	Token *Token `json:"token,omitempty"`
	// Exactly one of AutoScaler and NumReplicas is set.
	AutoScaler  *AutoScaler `json:"autoScaler,omitempty"`
	NumReplicas *int        `json:"numReplicas,omitempty"`

	ScoringTimeoutMs                  int `json:"scoringTimeoutMs"`
	MaxConcurrentRequestsPerContainer int `json:"maxConcurrentRequestsPerContainer"`
	MaxQueueWaitMs                    int `json:"maxQueueWaitMs"`

	Liveness           Liveness       `json:"livenessProbeRequirements"`
	AppInsightsEnabled bool           `json:"appInsightsEnabled"`
	DataCollection     DataCollection `json:"dataCollection"`
	Versions           []Version      `json:"versions,omitempty"`
}

// AuthMode is who may score.
type AuthMode string

// The auth modes: v1's key and token auth, and none.
const (
	AuthKey   AuthMode = "key"
	AuthToken AuthMode = "token"
	AuthNone  AuthMode = "none"
)

// Token says who issues the tokens of a service with authMode token.
type Token struct {
	Issuer string      `json:"issuer"` // IssuerKubernetes or IssuerEntra
	Entra  *EntraToken `json:"entra,omitempty"`
}

// Values of Token.Issuer.
const (
	IssuerKubernetes = "kubernetes"
	IssuerEntra      = "entra"
)

// EntraToken is what a Microsoft Entra token must show.
type EntraToken struct {
	TenantID string   `json:"tenantId"`
	Audience string   `json:"audience"`
	Roles    []string `json:"roles,omitempty"`
}

// Model is a model version registered in the workspace, written name:version in
// the file; with Registry, one of an Azure ML registry (a name or a resource ID); with Path, a file or folder
// beside the file that was never registered.
type Model struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Registry string `json:"registry,omitempty"`
	Path     string `json:"path,omitempty"`
}

// Inference is what runs the model.
type Inference struct {
	// SourceDirectory's content becomes AML_APP_ROOT.
	SourceDirectory string `json:"sourceDirectory,omitempty"`
	// EntryScript is relative to SourceDirectory; unset for a server of one's own.
	EntryScript string `json:"entryScript,omitempty"`
	// BaseImage is pinned by digest, or the word "scratch".
	BaseImage    string `json:"baseImage"`
	Requirements string `json:"requirements,omitempty"`
	// Command replaces the base image's entrypoint.
	Command              []string          `json:"command,omitempty"`
	Port                 int               `json:"port"`
	Routes               Routes            `json:"routes"`
	EnvironmentVariables map[string]string `json:"environmentVariables,omitempty"`
	// Secrets are environment variables whose values come from references.
	Secrets map[string]SecretRef `json:"secrets,omitempty"`
}

// ScratchImage is the base of a service that brings everything itself.
const ScratchImage = "scratch"

// Routes are the container's paths.
type Routes struct {
	Scoring   string `json:"scoring"`
	Liveness  string `json:"liveness"`
	Readiness string `json:"readiness"`
}

// SecretRef says where a secret is; exactly one field is set.
type SecretRef struct {
	KeyVault string `json:"keyVault,omitempty"` // secret URI
	Env      string `json:"env,omitempty"`      // variable where amlaks runs
	File     string `json:"file,omitempty"`     // path where amlaks runs, outside git
}

// Resources are a replica's requests and limits: CPU in vCPU, memory in GiB.
type Resources struct {
	CPU             float64  `json:"cpu"`
	MemoryInGB      float64  `json:"memoryInGB"`
	CPULimit        *float64 `json:"cpuLimit,omitempty"`
	MemoryInGBLimit *float64 `json:"memoryInGBLimit,omitempty"`
	GPU             int      `json:"gpu"`
	FPGA            int      `json:"fpga"`
}

// AutoScaler is v1's: it counts busy containers.
type AutoScaler struct {
	MinReplicas            int `json:"minReplicas"`
	MaxReplicas            int `json:"maxReplicas"`
	TargetUtilization      int `json:"targetUtilization"` // percent
	RefreshPeriodInSeconds int `json:"refreshPeriodInSeconds"`
}

// Liveness is v1's livenessProbeRequirements, in seconds.
type Liveness struct {
	InitialDelaySeconds int `json:"initialDelaySeconds"`
	PeriodSeconds       int `json:"periodSeconds"`
	TimeoutSeconds      int `json:"timeoutSeconds"`
	SuccessThreshold    int `json:"successThreshold"`
	FailureThreshold    int `json:"failureThreshold"`
}

// DataCollection stores scoring payloads to blob.
type DataCollection struct {
	StorageEnabled bool `json:"storageEnabled"`
}

// Version is one of several versions behind a service's URL (v1's AksEndpoint).
// What it leaves out is the service's own.
type Version struct {
	Name              string     `json:"name"`
	Models            []Model    `json:"models,omitempty"`
	Inference         *Inference `json:"inference,omitempty"`
	TrafficPercentile float64    `json:"trafficPercentile"`
	IsDefault         bool       `json:"isDefault"`
}

// DefaultVersion is the name of the only version of a service that lists none.
const DefaultVersion = "default"

// ServedVersions gives the versions behind the service's URL, with what each leaves out
// filled in from the service: always at least one, and exactly one of them the default.
func (s Service) ServedVersions() []Version {
	if len(s.Versions) == 0 {
		return []Version{{Name: DefaultVersion, Models: s.Models, Inference: &s.Inference, TrafficPercentile: 100, IsDefault: true}}
	}
	versions := slices.Clone(s.Versions)
	for i := range versions {
		if len(versions[i].Models) == 0 {
			versions[i].Models = s.Models
		}
		if versions[i].Inference == nil {
			versions[i].Inference = &s.Inference
		}
	}
	return versions
}
