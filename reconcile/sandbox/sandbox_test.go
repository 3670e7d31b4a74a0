package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/containerservice/armcontainerservice/v6"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const kubeconfig = "apiVersion: v1\nkind: Config\n"

const group = sandbox.ResourceGroup

// start runs a sandbox in this process, with a given kubeconfig behind its clusters.
func start(t *testing.T, dir string, options ...func(*sandbox.Options)) *sandbox.Sandbox {
	t.Helper()
	o := sandbox.Options{Dir: dir, Kubeconfig: []byte(kubeconfig), OperationTime: 20 * time.Millisecond, Logf: t.Logf}
	for _, option := range options {
		option(&o)
	}
	s, err := sandbox.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

type token string

func (k token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(k), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// sdk is how an unmodified client of the SDK reaches the sandbox.
func sdk(s *sandbox.Sandbox) *arm.ClientOptions {
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.InsecureAllowCredentialWithHTTP = true
	options.Retry.RetryDelay = time.Millisecond
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: s.ARMEndpoint(), Audience: s.ARMEndpoint()},
	}}
	return options
}

// aks are the SDK's clients for clusters and pools.
func aks(t *testing.T, s *sandbox.Sandbox) (*armcontainerservice.ManagedClustersClient, *armcontainerservice.AgentPoolsClient) {
	t.Helper()
	factory, err := armcontainerservice.NewClientFactory(sandbox.SubscriptionID, token(s.Token()), sdk(s))
	if err != nil {
		t.Fatal(err)
	}
	return factory.NewManagedClustersClient(), factory.NewAgentPoolsClient()
}

// newCluster is a body that AKS accepts.
func newCluster() armcontainerservice.ManagedCluster {
	return armcontainerservice.ManagedCluster{
		Location: to.Ptr("West Europe"),
		Identity: &armcontainerservice.ManagedClusterIdentity{Type: to.Ptr(armcontainerservice.ResourceIdentityTypeSystemAssigned)},
		Tags:     map[string]*string{"amlaks-stack": to.Ptr("churn")},
		Properties: &armcontainerservice.ManagedClusterProperties{
			DNSPrefix: to.Ptr("prod"),
			AgentPoolProfiles: []*armcontainerservice.ManagedClusterAgentPoolProfile{{
				Name: to.Ptr("agentpool"), Mode: to.Ptr(armcontainerservice.AgentPoolModeSystem), VMSize: to.Ptr("Standard_D4ds_v5"), Count: to.Ptr[int32](3),
			}},
		},
	}
}

// create makes a cluster through the SDK and waits for it.
func create(t *testing.T, clusters *armcontainerservice.ManagedClustersClient, name string) armcontainerservice.ManagedCluster {
	t.Helper()
	poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, name, newCluster(), nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := poller.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return made.ManagedCluster
}

// put sends a cluster and waits for the end.
func put(t *testing.T, clusters *armcontainerservice.ManagedClustersClient, name string, body armcontainerservice.ManagedCluster) error {
	t.Helper()
	poller, err := clusters.BeginCreateOrUpdate(t.Context(), group, name, body, nil)
	if err != nil {
		return err
	}
	_, err = poller.PollUntilDone(t.Context(), nil)
	return err
}

// wantCode checks an error's status and code; an operation that failed has status 200.
func wantCode(t *testing.T, err error, status int, code string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		t.Fatalf("got %v, want %d %s", err, status, code)
	}
	if response.StatusCode != status || response.ErrorCode != code {
		t.Errorf("got %d %s, want %d %s", response.StatusCode, response.ErrorCode, status, code)
	}
}

// calls counts the requests of a method that a service has seen.
func calls(s *sandbox.Sandbox, service, method string) int {
	n := 0
	for _, request := range s.Requests(service) {
		if request.Method == method {
			n++
		}
	}
	return n
}

func clusterID(name string) string {
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s", sandbox.SubscriptionID, group, name)
}
