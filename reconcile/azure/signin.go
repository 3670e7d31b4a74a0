package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// setup is what the ways to sign in are made of.
type setup struct {
	identity Identity
	getenv   func(string) string
	// client is how Microsoft Entra is reached. It is not that of Resource Manager: a command
	// that only reads must still sign in, and that is a POST.
	client azcore.ClientOptions
}

// notSetUp tells that a way to sign in is not configured here, and what it lacks.
type notSetUp string

func (n notSetUp) Error() string { return string(n) }

// need gives the values of variables, in their order.
func (s setup) need(names ...string) ([]string, error) {
	values := make([]string, len(names))
	var missing []string
	for i, name := range names {
		if values[i] = s.getenv(name); values[i] == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, notSetUp(strings.Join(missing, ", ") + " not set")
	}
	return values, nil
}

// withoutDiscovery: an authority on this machine is none that Microsoft could vouch for.
func (s setup) withoutDiscovery() bool {
	u, err := url.Parse(s.client.Cloud.ActiveDirectoryAuthorityHost)
	return err == nil && reconcile.IsLoopback(u.Hostname())
}

// method is a way to sign in.
type method struct {
	name       string
	credential func(setup) (azcore.TokenCredential, error)
	// probed: whether there is such an identity here, only asking for a token tells.
	probed bool
}

var methods = []method{
	{name: "env", credential: servicePrincipal},
	{name: "workload", credential: workloadIdentity},
	{name: "github", credential: gitHub},
	{name: "pipelines", credential: azurePipelines},
	{name: "cli", credential: azureCLI, probed: true},
	{name: "managed", credential: managedIdentity, probed: true},
}

// servicePrincipal reads azidentity's variables (its EnvironmentCredential).
func servicePrincipal(s setup) (azcore.TokenCredential, error) {
	values, err := s.need("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
	if err != nil {
		return nil, err
	}
	if secret := s.getenv("AZURE_CLIENT_SECRET"); secret != "" {
		return azidentity.NewClientSecretCredential(values[0], values[1], secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: s.client, DisableInstanceDiscovery: s.withoutDiscovery()})
	}
	path := s.getenv("AZURE_CLIENT_CERTIFICATE_PATH")
	if path == "" {
		return nil, notSetUp("AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH not set")
	}
	data, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("AZURE_CLIENT_CERTIFICATE_PATH: %w", err)
	}
	certificates, key, err := azidentity.ParseCertificates(data, []byte(s.getenv("AZURE_CLIENT_CERTIFICATE_PASSWORD")))
	if err != nil {
		return nil, fmt.Errorf("AZURE_CLIENT_CERTIFICATE_PATH=%s: %w", path, err)
	}
	return azidentity.NewClientCertificateCredential(values[0], values[1], certificates, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: s.client, DisableInstanceDiscovery: s.withoutDiscovery(),
		SendCertificateChain: strings.EqualFold(s.getenv("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"), "true")})
}

// maxFile bounds a certificate or token file.
const maxFile = 1 << 20

func readBounded(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxFile))
}

// workloadIdentity is that of a pod: the webhook of AKS sets the variables.
func workloadIdentity(s setup) (azcore.TokenCredential, error) {
	values, err := s.need("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
	if err != nil {
		return nil, err
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: s.client,
		TenantID: values[0], ClientID: values[1], TokenFilePath: values[2], DisableInstanceDiscovery: s.withoutDiscovery()})
}

// azurePipelines is a service connection with workload identity federation. The variables
// are those that the tasks AzureCLI@2 and AzurePowerShell@5 set.
func azurePipelines(s setup) (azcore.TokenCredential, error) {
	values, err := s.need("SYSTEM_OIDCREQUESTURI", "SYSTEM_ACCESSTOKEN",
		"AZURESUBSCRIPTION_TENANT_ID", "AZURESUBSCRIPTION_CLIENT_ID", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID")
	if err != nil {
		return nil, err
	}
	return azidentity.NewAzurePipelinesCredential(values[2], values[3], values[4], values[1],
		&azidentity.AzurePipelinesCredentialOptions{ClientOptions: s.client, DisableInstanceDiscovery: s.withoutDiscovery()})
}

// exchangeAudience is what a token from outside Entra must be meant for, by cloud
// (https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust).
func exchangeAudience(name string) string {
	switch name {
	case spec.USGovCloud:
		return "api://AzureADTokenExchangeUSGov"
	case spec.ChinaCloud:
		return "api://AzureADTokenExchangeChina"
	}
	return "api://AzureADTokenExchange"
}

// gitHub is a job of GitHub Actions with `permissions: id-token: write`; azidentity has no
// class for it. The client and tenant are those of azure/login.
func gitHub(s setup) (azcore.TokenCredential, error) {
	values, err := s.need("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "AZURE_TENANT_ID", "AZURE_CLIENT_ID")
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Scheme != "https" {
		return nil, errors.New("ACTIONS_ID_TOKEN_REQUEST_URL is not an https address")
	}
	query := u.Query()
	query.Set("audience", exchangeAudience(s.identity.Cloud))
	u.RawQuery = query.Encode()
	return azidentity.NewClientAssertionCredential(values[2], values[3],
		func(ctx context.Context) (string, error) { return s.gitHubToken(ctx, u.String(), values[1]) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: s.client, DisableInstanceDiscovery: s.withoutDiscovery()})
}

// gitHubToken asks GitHub for the job's own token.
func (s setup) gitHubToken(ctx context.Context, from, bearer string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+bearer)
	response, err := s.client.Transport.Do(request)
	if err != nil {
		return "", fmt.Errorf("ask GitHub for the job's token: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask GitHub for the job's token: HTTP %s; the job needs `permissions: id-token: write`", response.Status)
	}
	var answer struct{ Value string }
	if err := json.NewDecoder(io.LimitReader(response.Body, maxFile)).Decode(&answer); err != nil || answer.Value == "" {
		return "", errors.New("ask GitHub for the job's token: it answered none")
	}
	return answer.Value, nil
}

// azureCLI is whoever has run az login.
func azureCLI(s setup) (azcore.TokenCredential, error) {
	return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{Subscription: s.identity.SubscriptionID, TenantID: s.getenv("AZURE_TENANT_ID")})
}

// managedIdentity is that of the virtual machine, or of the app; AZURE_CLIENT_ID picks one
// that a user has assigned.
func managedIdentity(s setup) (azcore.TokenCredential, error) {
	options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: s.client}
	if id := s.getenv("AZURE_CLIENT_ID"); id != "" {
		options.ID = azidentity.ClientID(id)
	}
	return azidentity.NewManagedIdentityCredential(options)
}

// brief is what azidentity says in one line: its own text shows whole answers.
func brief(err error) string {
	var failed *azidentity.AuthenticationFailedError
	if errors.As(err, &failed) && failed.RawResponse != nil {
		var answer struct {
			Error       any    `json:"error"`
			Description string `json:"error_description"`
			Message     string `json:"message"`
		}
		text := "HTTP " + failed.RawResponse.Status
		if payload, err := runtime.Payload(failed.RawResponse); err == nil && json.Unmarshal(payload, &answer) == nil {
			if said := firstLine(answer.Description + answer.Message); said != "" {
				text += ": " + said
			}
		}
		return text
	}
	return firstLine(err.Error())
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(line)
}

// cloudOf is the configuration of a cloud by the az command's name.
func cloudOf(name string) (cloud.Configuration, error) {
	configuration, ok := clouds[name]
	if !ok {
		return cloud.Configuration{}, fmt.Errorf("cloud %q: it is %s, %s or %s", name, spec.PublicCloud, spec.USGovCloud, spec.ChinaCloud)
	}
	return configuration, nil
}
