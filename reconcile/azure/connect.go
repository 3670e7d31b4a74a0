// Package azure is the driver for what lives in Azure Resource Manager: the workspace (read, or
// made with what it needs where there is none), AKS clusters and their node pools (made,
// changed, attached, deleted), the right of their nodes to pull from the registry, and their
// entries in the workspace.
//
// Bodies are sent as JSON overlaid on what is live, over azcore's own pipeline, so that a
// property that no version of the SDK knows survives an update. Ownership travels in tags
// inside the create request, so a process killed at any moment leaves nothing nameless.
package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/uuid"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// The variables that point amlaks at another Resource Manager. Both are honoured for
// loopback addresses alone: a token in the environment must never leave the machine.
const (
	EndpointVariable = "AMLAKS_ARM_ENDPOINT"
	TokenVariable    = "AMLAKS_ARM_TOKEN"
)

// Connection is an identity and how to reach Resource Manager with it.
type Connection struct {
	Credential azcore.TokenCredential
	Options    *arm.ClientOptions
	// Run is the correlation id of all requests to Resource Manager: the activity log finds
	// by it what one run did.
	Run string
}

// Connect reads the environment (through getenv) and gives the connection. A read-only one
// refuses every request that could change something. Nobody is signed in before the first
// request needs it.
func Connect(getenv func(string) string, version string, readOnly bool, who Identity) (*Connection, error) {
	options := &arm.ClientOptions{DisableRPRegistration: true}
	options.Telemetry.ApplicationID = "amlaks/" + version
	patient(options)
	run := uuid.NewString()
	options.PerCallPolicies = append(options.PerCallPolicies, runPolicy(run), runtime.NewRequestIDPolicy())
	if readOnly {
		options.PerCallPolicies = append(options.PerCallPolicies, readOnlyPolicy{})
	}
	endpoint := getenv(EndpointVariable)
	if endpoint == "" {
		configuration, err := cloudOf(who.Cloud)
		if err != nil {
			return nil, err
		}
		options.Cloud = configuration
		client := azcore.ClientOptions{Cloud: configuration, Telemetry: options.Telemetry, Transport: options.Transport}
		credential, err := newChain(setup{identity: who, getenv: getenv, client: client})
		if err != nil {
			return nil, err
		}
		return &Connection{Credential: credential, Options: options, Run: run}, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || !reconcile.IsLoopback(u.Hostname()) {
		return nil, fmt.Errorf("%s=%s: only a loopback address is honoured", EndpointVariable, endpoint)
	}
	options.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: strings.TrimSuffix(endpoint, "/"), Audience: endpoint},
	}}
	options.InsecureAllowCredentialWithHTTP = true
	options.PerCallPolicies = append(options.PerCallPolicies, loopbackPolicy{})
	return &Connection{Credential: staticToken{getenv(TokenVariable), endpoint}, Options: options, Run: run}, nil
}

// staticToken is the credential of a loopback Resource Manager and of the storage behind it.
type staticToken struct{ token, audience string }

// storageAudience is asked for by the SDK's storage clients, which loopbackPolicy guards too.
const storageAudience = "https://storage.azure.com"

// GetToken gives the token to those alone. A registry of Azure, for one, is elsewhere.
func (t staticToken) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	for _, scope := range options.Scopes {
		if scope != t.audience+"/.default" && scope != storageAudience+"/.default" {
			return azcore.AccessToken{}, fmt.Errorf("no token for %s: that of %s is for loopback addresses alone", scope, TokenVariable)
		}
	}
	return azcore.AccessToken{Token: t.token, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

const correlationHeader = "X-Ms-Correlation-Request-Id"

// runPolicy is Connection.Run.
type runPolicy string

func (p runPolicy) Do(request *policy.Request) (*http.Response, error) {
	request.Raw().Header.Set(correlationHeader, string(p))
	return request.Next()
}

// loopbackPolicy refuses the links to other machines that an answer may hold (the next page,
// the state of an operation): they are followed with the token.
type loopbackPolicy struct{}

func (loopbackPolicy) Do(request *policy.Request) (*http.Response, error) {
	if host := request.Raw().URL.Hostname(); !reconcile.IsLoopback(host) {
		return nil, retry.Final{Err: fmt.Errorf("%s %s refused: %s is honoured for loopback addresses alone", request.Raw().Method, host, EndpointVariable)}
	}
	return request.Next()
}

// readOnlyPolicy is promise 1 of the design: what plans cannot write.
type readOnlyPolicy struct{}

func (readOnlyPolicy) Do(request *policy.Request) (*http.Response, error) {
	raw := request.Raw()
	switch {
	case raw.Method == http.MethodGet, raw.Method == http.MethodHead:
	case raw.Method == http.MethodPost && strings.HasSuffix(strings.ToLower(raw.URL.Path), "credential"):
		// Reading a kubeconfig is a POST in ARM, and changes nothing.
	default:
		return nil, retry.Final{Err: fmt.Errorf("%s %s refused: this command only reads", raw.Method, raw.URL.Path)}
	}
	return request.Next()
}
