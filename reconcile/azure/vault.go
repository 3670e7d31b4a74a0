package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/amlaks/amlaks/reconcile"
)

// secretsVersion is the API version of Key Vault's data plane.
const secretsVersion = "7.4"

// maxSecretAnswer bounds the answer of Get Secret: a value has at most 25 KB, and its
// backslashes and tags come on top.
const maxSecretAnswer = 1 << 20

// vaultClouds are the domains of Key Vault, of which each is its tokens' audience too
// (azure-sdk-for-go, sdk/security/keyvault/azsecrets: challenge verification).
var vaultClouds = [...]string{"vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net"}

// secretPath is what is read: a secret, or a certificate, whose chain and key are the secret
// of its name.
var secretPath = regexp.MustCompile(`^/(?:secrets|certificates)/([-0-9A-Za-z]{1,127})(/[0-9a-f]+)?$`)

// Secret reads the value and the content type of a Key Vault secret, or of what a Key Vault
// certificate consists of, by one GET. uri is https://VAULT.vault.azure.net/secrets/NAME or
// /certificates/NAME, with a version behind it or not. The token goes nowhere but to a Key
// Vault over https; for a connection to loopback, to loopback alone.
func (c *Connection) Secret(ctx context.Context, uri string) (value, contentType string, err error) {
	target, scope, err := c.vaultTarget(uri)
	if err != nil {
		return "", "", err
	}
	pipeline := runtime.NewPipeline("amlaks", "v0.0.0", runtime.PipelineOptions{
		PerRetry: []policy.Policy{runtime.NewBearerTokenPolicy(c.Credential, []string{scope}, &policy.BearerTokenOptions{
			InsecureAllowCredentialWithHTTP: c.Options.InsecureAllowCredentialWithHTTP,
		})},
	}, &c.Options.ClientOptions)
	request, err := runtime.NewRequest(withBudget(ctx, c.Options.Retry), http.MethodGet, target)
	if err != nil {
		return "", "", err
	}
	request.Raw().Header.Set("Accept", "application/json")
	runtime.SkipBodyDownload(request) // it is read here, and not all of it
	response, err := pipeline.Do(request)
	if err != nil {
		return "", "", explainVault(uri, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		response.Body = io.NopCloser(io.LimitReader(response.Body, maxSecretAnswer))
		return "", "", explainVault(uri, runtime.NewResponseError(response))
	}
	var secret struct {
		Value       string `json:"value"`
		ContentType string `json:"contentType"`
	}
	// The cause might quote the value.
	if json.NewDecoder(io.LimitReader(response.Body, maxSecretAnswer)).Decode(&secret) != nil {
		return "", "", fmt.Errorf("read %s: the answer is not a secret's", uri)
	}
	return secret.Value, secret.ContentType, nil
}

// vaultTarget is the URL of Get Secret, and what to ask a token for.
func (c *Connection) vaultTarget(uri string) (target, scope string, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", "", fmt.Errorf("%q is not the URI of a Key Vault secret", uri)
	}
	match := secretPath.FindStringSubmatch(u.Path)
	if match == nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", fmt.Errorf("%s: it is not the URI of a Key Vault secret or certificate", uri)
	}
	if c.Options.InsecureAllowCredentialWithHTTP { // a connection to loopback; see Connect
		if !reconcile.IsLoopback(u.Hostname()) {
			return "", "", fmt.Errorf("read %s refused: %s is honoured for loopback addresses alone", uri, EndpointVariable)
		}
		scope = c.Options.Cloud.Services[cloud.ResourceManager].Audience + "/.default"
	} else {
		_, domain, _ := strings.Cut(u.Host, ".")
		if u.Scheme != "https" || !slices.Contains(vaultClouds[:], strings.ToLower(domain)) {
			return "", "", fmt.Errorf("read %s refused: a token goes to a Key Vault alone, https://VAULT.%s", uri, vaultClouds[0])
		}
		scope = "https://" + strings.ToLower(domain) + "/.default"
	}
	return u.Scheme + "://" + u.Host + "/secrets/" + match[1] + match[2] + "?api-version=" + secretsVersion, scope, nil
}

// explainVault says what to do about what Key Vault answers.
func explainVault(uri string, err error) error {
	doing := "read " + uri
	if err == nil || reconcile.ReasonOf(err) != "" {
		return err
	}
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return unanswered(doing, "the Key Vault", "is its name right, and may this machine reach it (firewall, private endpoint)?", err)
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: %s", doing, sentence(response))}
	switch {
	case response.StatusCode == http.StatusNotFound:
		failure.Reason, failure.Hint = reconcile.ReasonNotFound, "a certificate that was imported or issued has a secret of its own name; az keyvault secret list --vault-name VAULT shows them"
	case response.StatusCode == http.StatusForbidden && strings.Contains(failure.Error(), "disabled secret"):
		failure.Reason, failure.Hint = reconcile.ReasonForbidden, "enable it, or refer to a version that is"
	case response.StatusCode == http.StatusForbidden, response.StatusCode == http.StatusUnauthorized:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "whoever plans and applies needs the role Key Vault Secrets User on the vault (for a certificate, Key Vault Certificate User does too), or the access policy secrets get; a firewall of the vault must let this machine in"
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason, failure.Hint = reconcile.ReasonThrottled, "the vault is asked too often: run it again in a minute"
	case response.StatusCode >= http.StatusInternalServerError:
		failure.Reason, failure.Hint = reconcile.ReasonUnavailable, "Key Vault answered this to every retry: run it again later"
	}
	return failure
}
