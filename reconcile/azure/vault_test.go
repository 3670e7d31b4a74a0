package azure_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func TestVault(t *testing.T) {
	t.Parallel()
	w := start(t)
	put := func(name, value, contentType string) string {
		t.Helper()
		version, err := w.PutSecret(name, value, contentType)
		if err != nil {
			t.Fatal(err)
		}
		return version
	}
	first := put("score", "one", "application/x-pem-file")
	put("score", "two", "application/x-pkcs12")
	put("off", "hidden", "")
	put("off", "", "")
	connection := w.connect(true)
	for uri, want := range map[string]string{
		"/secrets/score": "two application/x-pkcs12", "/certificates/score": "two application/x-pkcs12",
		"/secrets/score/" + first: "one application/x-pem-file", "/certificates/SCORE/" + first: "one application/x-pem-file",
	} {
		value, contentType, err := connection.Secret(t.Context(), w.Vault()+uri)
		if err != nil || value+" "+contentType != want {
			t.Errorf("%s: %q %q, %v; want %s", uri, value, contentType, err, want)
		}
	}
	fails := func(uri string, reason reconcile.Reason, words, hint string) {
		t.Helper()
		value, _, err := connection.Secret(t.Context(), w.Vault()+uri)
		if value != "" || reconcile.ReasonOf(err) != reason || !strings.Contains(err.Error(), words) || !strings.Contains(reconcile.HintOf(err), hint) {
			t.Errorf("%s: %q, %v (%s; hint: %s)", uri, value, err, reconcile.ReasonOf(err), reconcile.HintOf(err))
		}
	}
	fails("/secrets/none", reconcile.ReasonNotFound, "SecretNotFound: A secret with (name/id) none was not found", "az keyvault secret list")
	fails("/secrets/off", reconcile.ReasonForbidden, "not allowed on a disabled secret", "enable it")
	for _, test := range []struct {
		fault  sandbox.Fault
		reason reconcile.Reason
		words  string
	}{
		{sandbox.Fault{Status: http.StatusForbidden, Code: "Forbidden:ForbiddenByRbac"}, reconcile.ReasonForbidden, "Key Vault Secrets User"},
		{sandbox.Fault{Status: http.StatusUnauthorized, Code: "Unauthorized"}, reconcile.ReasonForbidden, "Key Vault Secrets User"},
	} {
		test.fault.Service = "vault"
		if _, err := w.Fault(test.fault); err != nil {
			t.Fatal(err)
		}
		fails("/secrets/score", test.reason, "HTTP ", test.words)
	}
	// One that passes is waited out.
	if _, err := w.Fault(sandbox.Fault{Service: "vault", Status: http.StatusServiceUnavailable}); err != nil {
		t.Fatal(err)
	}
	if value, _, err := connection.Secret(t.Context(), w.Vault()+"/secrets/score"); value != "two" {
		t.Errorf("after a 503: %q %v", value, err)
	}
	for _, request := range w.Requests("vault") {
		if request.Method != http.MethodGet || !strings.HasPrefix(request.Path, "/secrets/") {
			t.Errorf("%s %s", request.Method, request.Path)
		}
	}
}

// errNobody is final: it is not tried again.
var errNobody = retry.Final{Err: errors.New("nobody signs in")}

// credential counts who asks for a token, and for what.
type credential struct {
	mu     sync.Mutex
	scopes []string
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scopes = append(c.scopes, o.Scopes...)
	return azcore.AccessToken{}, errNobody
}

// A committed file must not send the identity's token anywhere.
func TestVaultToken(t *testing.T) {
	t.Parallel()
	loopback := start(t).connect(true)
	for _, uri := range []string{"https://ml-prod.vault.azure.net/secrets/score", "http://10.0.0.1:80/secrets/score", "http://127.0.0.1@example.com/secrets/a"} {
		if _, _, err := loopback.Secret(t.Context(), uri); err == nil || !strings.Contains(err.Error(), "secrets") {
			t.Errorf("%s, from a connection to loopback: %v", uri, err)
		}
	}
	strict, err := azure.Connect(func(string) string { return "" }, version, true, azure.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	asked := &credential{}
	strict.Credential = asked
	for _, uri := range []string{
		"http://127.0.0.1:1/secrets/a", "http://ml-prod.vault.azure.net/secrets/a", "https://vault.azure.net/secrets/a", "https://ml.vault.azure.net.example.com/secrets/a",
		"https://ml.vault.azure.net:8443/secrets/a", "https://a@ml.vault.azure.net/secrets/a", "https://ml.vault.azure.net/keys/a", "https://ml.vault.azure.net/secrets/a?b", "https://a.b.vault.azure.net/secrets/a",
		"https://example.com/.vault.azure.net/secrets/a", ":",
	} {
		if _, _, err := strict.Secret(t.Context(), uri); err == nil || strings.Contains(err.Error(), errNobody.Error()) {
			t.Errorf("%s was asked: %v", uri, err)
		}
	}
	if len(asked.scopes) > 0 {
		t.Errorf("tokens were asked for: %v", asked.scopes)
	}
	for domain, scope := range map[string]string{
		"vault.azure.net": "https://vault.azure.net/.default", "vault.azure.cn": "https://vault.azure.cn/.default", "vault.usgovcloudapi.net": "https://vault.usgovcloudapi.net/.default",
	} {
		asked.scopes = nil
		// Nobody signs in, so nothing is sent.
		if _, _, err := strict.Secret(t.Context(), "https://amlaks-test."+domain+"/secrets/a"); err == nil {
			t.Errorf("%s answered", domain)
		}
		if len(asked.scopes) == 0 || asked.scopes[0] != scope {
			t.Errorf("%s: tokens for %v, want %s", domain, asked.scopes, scope)
		}
	}
}
