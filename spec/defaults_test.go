package spec

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mustParse parses a file that is valid; its warnings do not matter.
func mustParse(t testing.TB, text string) *Stack {
	t.Helper()
	stack, diags := Parse("amlaks.yaml", []byte(text), "")
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	return stack
}

func ptr[T any](v T) *T { return &v }

const workspaceLine = "apiVersion: amlaks.io/v1\nname: churn\nworkspace: {subscriptionId: 00000000-0000-0000-0000-000000000000, resourceGroup: ml, name: ml-prod}\n"

// TestDefaults states every default as a number of its own: the schema, which
// the code takes them from, cannot drift without this test saying so.
func TestDefaults(t *testing.T) {
	got := mustParse(t, workspaceLine+`
clusters:
  - name: prod
  - {name: dense, purpose: DenseProd, nodePools: [{name: one, vmSize: Standard_D4ds_v5}, {name: two, vmSize: Standard_D4ds_v5, minCount: 0, maxCount: 2, zones: [2], maxPods: 30}, {name: gpu, vmSize: Standard_nc4as_t4_v3}, {name: bare, vmSize: Standard_NC4as_T4_v3, labels: {}, taints: []}, {name: fpga, vmSize: Standard_NP10s}]}
  - {name: dev, purpose: DevTest, ssl: {cname: a.example.com, certificate: {files: {cert: a, key: b}}}}
  - {name: taken, purpose: DevTest, adopt: true, nodePools: [{name: one, vmSize: Standard_D4ds_v5}]}
  - {name: old, attach: {resourceGroup: a, clusterName: b}, loadBalancerType: InternalLoadBalancer}
  - {name: inside, loadBalancerType: InternalLoadBalancer, vnet: {resourceGroup: a, name: b, subnet: c, serviceCidr: 10.0.0.0/16, dnsServiceIP: 10.0.0.10}}
services:
  - name: churn
    cluster: prod
    models: [churn:3, {name: other, version: 7}]
    inference: {baseImage: scratch, command: [a]}
  - name: offers
    cluster: prod
    authMode: token
    numReplicas: 1
    versions:
      - {name: one, inference: {baseImage: scratch, command: [a]}}
      - {name: two, inference: {baseImage: scratch, command: [a], port: 80}, trafficPercentile: 5}
`)
	inference := Inference{BaseImage: "scratch", Command: []string{"a"}, Port: 5001, Routes: Routes{Scoring: "/score", Liveness: "/", Readiness: "/"}}
	onPort80 := inference
	onPort80.Port = 80
	service := Service{
		Cluster: "prod", Resources: Resources{CPU: 0.1, MemoryInGB: 0.5},
		ScoringTimeoutMs: 60000, MaxConcurrentRequestsPerContainer: 1, MaxQueueWaitMs: 500,
		Liveness: Liveness{InitialDelaySeconds: 310, PeriodSeconds: 10, TimeoutSeconds: 2, SuccessThreshold: 1, FailureThreshold: 3},
	}
	churn, offers := service, service
	churn.Name, churn.AuthMode, churn.Inference = "churn", AuthKey, inference
	churn.Models = []Model{{Name: "churn", Version: "3"}, {Name: "other", Version: "7"}}
	churn.AutoScaler = &AutoScaler{MinReplicas: 1, MaxReplicas: 10, TargetUtilization: 70, RefreshPeriodInSeconds: 1}
	offers.Name, offers.AuthMode, offers.Token = "offers", AuthToken, &Token{Issuer: IssuerKubernetes}
	offers.NumReplicas = ptr(1)
	offers.Versions = []Version{{Name: "one", Inference: &inference, IsDefault: true}, {Name: "two", Inference: &onPort80, TrafficPercentile: 5}}

	zones := []int{1, 2, 3}
	three, one := FrontEnd{Expose: ExposeLoadBalancer, Replicas: 3, Port: 80}, FrontEnd{Expose: ExposeLoadBalancer, Replicas: 1, Port: 443}
	want := &Stack{
		APIVersion: APIVersion, Name: "churn", MaxDeletes: 20,
		Workspace: Workspace{SubscriptionID: "00000000-0000-0000-0000-000000000000", ResourceGroup: "ml", Name: "ml-prod", Cloud: PublicCloud, GrantAcrPull: true},
		Clusters: []Cluster{
			{Name: "prod", Purpose: FastProd, VMSize: "Standard_D4ds_v5", AgentCount: ptr(3), Zones: zones, LoadBalancerType: PublicIP, FrontEnd: three, Protect: true},
			{Name: "dense", Purpose: DenseProd, VMSize: "Standard_D4ds_v5", AgentCount: ptr(3), Zones: zones, MaxPods: ptr(250), LoadBalancerType: PublicIP, FrontEnd: three, Protect: true,
				NodePools: []NodePool{
					{Name: "one", VMSize: "Standard_D4ds_v5", AgentCount: ptr(1), Zones: zones, MaxPods: ptr(250)},
					{Name: "two", VMSize: "Standard_D4ds_v5", MinCount: ptr(0), MaxCount: ptr(2), Zones: []int{2}, MaxPods: ptr(30)},
					{Name: "gpu", VMSize: "Standard_nc4as_t4_v3", AgentCount: ptr(1), Zones: []int{}, MaxPods: ptr(250),
						Labels: map[string]string{"accelerator": "nvidia"}, Taints: []string{"sku=gpu:NoSchedule"}},
					{Name: "bare", VMSize: "Standard_NC4as_T4_v3", AgentCount: ptr(1), Zones: []int{}, MaxPods: ptr(250), Labels: map[string]string{}, Taints: []string{}},
					{Name: "fpga", VMSize: "Standard_NP10s", AgentCount: ptr(1), Zones: []int{}, MaxPods: ptr(250),
						Labels: map[string]string{"accelerator": "fpga"}, Taints: []string{"sku=fpga:NoSchedule"}},
				}},
			{Name: "dev", Purpose: DevTest, VMSize: "Standard_D4ds_v5", AgentCount: ptr(1), Zones: []int{}, LoadBalancerType: PublicIP, FrontEnd: one, Protect: true,
				SSL: &SSL{CName: "a.example.com", Certificate: Certificate{Files: &CertificateFiles{Cert: "a", Key: "b"}}}},
			{Name: "taken", Purpose: DevTest, VMSize: "Standard_D4ds_v5", AgentCount: ptr(1), LoadBalancerType: PublicIP,
				FrontEnd: FrontEnd{Expose: ExposeLoadBalancer, Replicas: 1, Port: 80}, Adopt: true, Protect: true,
				NodePools: []NodePool{{Name: "one", VMSize: "Standard_D4ds_v5", AgentCount: ptr(1)}}},
			{Name: "old", Purpose: FastProd, LoadBalancerType: InternalLoadBalancer, LoadBalancerSubnet: "aks-subnet", FrontEnd: three, Protect: true,
				Attach: &Attach{ResourceGroup: "a", ClusterName: "b"}},
			{Name: "inside", Purpose: FastProd, VMSize: "Standard_D4ds_v5", AgentCount: ptr(3), Zones: zones, LoadBalancerType: InternalLoadBalancer, LoadBalancerSubnet: "c", FrontEnd: three, Protect: true,
				VNet: &VNet{ResourceGroup: "a", Name: "b", Subnet: "c", ServiceCIDR: "10.0.0.0/16", DNSServiceIP: "10.0.0.10"}},
		},
		Services: []Service{churn, offers},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stack (-want +got):\n%s", diff)
	}
}

// TestStackReadsBack checks that a complete stack, written as JSON, is a file
// that means the same.
func TestStackReadsBack(t *testing.T) {
	for _, file := range []string{"../examples/full/amlaks.yaml", "../examples/quickstart/amlaks.yaml"} {
		stack, diags := Load(file)
		if err := diags.Err(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(stack)
		if err != nil {
			t.Fatal(err)
		}
		again, diags := Parse("again.yaml", text, stack.Dir)
		if err := diags.Err(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(stack, again); diff != "" {
			t.Errorf("%s read back (-first +second):\n%s", file, diff)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "amlaks.yaml")
	if err := os.WriteFile(file, []byte(baseFile), 0o644); err != nil {
		t.Fatal(err)
	}
	stack, diags := Load(file)
	if err := diags.Err(); err != nil {
		t.Fatal(err)
	}
	if stack.Dir != dir {
		t.Errorf("Dir is %s, want %s", stack.Dir, dir)
	}

	missing := filepath.Join(dir, "missing.yaml")
	stack, diags = Load(missing)
	if want := missing + ": does not exist"; stack != nil || diags.Error() != want {
		t.Errorf("Load = %v, %q, want nil, %q", stack, diags.Error(), want)
	}

	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, maxFileSize+1), 0o644); err != nil {
		t.Fatal(err)
	}
	stack, diags = Load(large)
	if want := large + ":1:1: is larger than 1024 KiB"; stack != nil || diags.Error() != want {
		t.Errorf("Load = %v, %q, want nil, %q", stack, diags.Error(), want)
	}

	stack, diags = Load(dir)
	if want := dir + ": cannot be read: is a directory"; stack != nil || diags.Error() != want {
		t.Errorf("Load = %v, %q, want nil, %q", stack, diags.Error(), want)
	}
}
