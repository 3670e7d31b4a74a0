package azure

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

const (
	tenant     = "11111111-2222-3333-4444-555555555555"
	clientID   = "66666666-7777-8888-9999-000000000000"
	connection = "99999999-8888-7777-6666-555555555555"
	secret     = "secret-that-nobody-may-see"
	armScope   = "https://management.azure.com/.default"
)

// entra is Microsoft Entra's token endpoint, GitHub's and Azure Pipelines' token endpoints and
// the metadata service of a virtual machine, on one loopback server.
type entra struct {
	*httptest.Server
	t  *testing.T
	mu sync.Mutex
	// asked is how each token was asked for.
	asked []string
	// refuse: with this error code.
	refuse string
	// scope of the tokens. Managed identities keep tokens for the whole process, by scope.
	scope string
}

func startEntra(t *testing.T) *entra {
	e := &entra{t: t, scope: "https://" + strings.ToLower(t.Name()) + ".example.com/.default"}
	e.Server = httptest.NewTLSServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *entra) note(how string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, how)
}

func (e *entra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	switch bearer := r.Header.Get("Authorization"); {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		base := e.URL + strings.TrimSuffix(r.URL.Path, "/v2.0/.well-known/openid-configuration")
		answer(map[string]string{"token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize", "issuer": base + "/v2.0"})
	case r.URL.Path == "/github" && bearer == "Bearer "+secret && r.URL.Query().Get("run") == "7":
		answer(map[string]string{"value": "github for " + r.URL.Query().Get("audience")})
	case r.URL.Path == "/pipelines" && bearer == "Bearer "+secret && r.Method == http.MethodPost:
		answer(map[string]string{"oidcToken": "pipelines for " + r.URL.Query().Get("serviceConnectionId")})
	case r.URL.Path == "/msi" && r.Header.Get("X-IDENTITY-HEADER") == secret:
		e.note("managed " + r.URL.Query().Get("client_id"))
		answer(map[string]any{"access_token": "the-token", "expires_on": fmt.Sprint(time.Now().Add(time.Hour).Unix()), "token_type": "Bearer", "resource": r.URL.Query().Get("resource")})
	case r.URL.Path == "/"+tenant+"/oauth2/v2.0/token" && e.refuse != "":
		w.WriteHeader(http.StatusUnauthorized)
		answer(map[string]string{"error": "invalid_client", "error_description": e.refuse + ": it is not right.\r\nTrace ID: 1"})
	case r.URL.Path == "/"+tenant+"/oauth2/v2.0/token":
		e.takeToken(w, r)
	default:
		http.Error(w, "not here: "+r.URL.Path, http.StatusNotFound)
	}
}

func (e *entra) takeToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.Form.Get("client_id") != clientID {
		http.Error(w, "whose?", http.StatusBadRequest)
		return
	}
	how := "secret"
	if r.Form.Get("client_secret") != secret {
		how = r.Form.Get("client_assertion")
		if strings.Count(how, ".") == 2 { // a JWT signed with a certificate
			how = "certificate"
		}
	}
	e.note(how)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "the-token", "expires_in": 3600, "token_type": "Bearer"})
}

// chain is the credential of an environment.
func (e *entra) chain(who Identity, environment map[string]string) (*chain, error) {
	configuration := cloud.Configuration{ActiveDirectoryAuthorityHost: e.URL, Services: cloud.AzurePublic.Services}
	return newChain(setup{identity: who, getenv: func(name string) string { return environment[name] }, client: azcore.ClientOptions{
		Cloud: configuration, Transport: e.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
	}})
}

func (e *entra) signIn(ctx context.Context, who Identity, environment map[string]string) error {
	c, err := e.chain(who, environment)
	if err != nil {
		return err
	}
	token, err := c.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{e.scope}})
	if err == nil && token.Token != "the-token" {
		err = fmt.Errorf("token %q", token.Token)
	}
	return err
}

func merge(maps ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps {
		for key, value := range m {
			all[key] = value
		}
	}
	return all
}

// az puts an az command on the PATH that gives a token, or says what az says to strangers.
func az(t *testing.T, signedIn bool) {
	t.Helper()
	script := "#!/bin/sh\necho \"$@\" >> \"$(dirname \"$0\")/calls\"\n"
	if signedIn {
		script += `echo '{"accessToken": "the-token", "expires_on": 4102444800}'` + "\n"
	} else {
		script += "echo \"ERROR: Please run 'az login' to setup account.\" >&2\nexit 1\n"
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "az"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
}

// noMetadata makes the machine one without a metadata service.
func noMetadata(t *testing.T, e *entra) {
	t.Helper()
	t.Setenv("IDENTITY_ENDPOINT", e.URL+"/none")
	t.Setenv("IDENTITY_HEADER", secret)
}

func certificateFile(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "amlaks"}, NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	path := filepath.Join(t.TempDir(), "sp.pem")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each way signs in, alone and as the first that is set up, in every command: also in one
// that may only read.
func TestSignIn(t *testing.T) {
	e := startEntra(t)
	az(t, false)
	noMetadata(t, e)
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("workload"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SYSTEM_OIDCREQUESTURI", e.URL+"/pipelines")
	principal := map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": clientID}
	gitHub := map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": e.URL + "/github?run=7", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": secret}
	for name, test := range map[string]struct {
		by          string
		cloud       string
		environment map[string]string
		want        string
	}{
		"secret":      {"env", "", merge(principal, map[string]string{"AZURE_CLIENT_SECRET": secret}), "secret"},
		"certificate": {"env", "", merge(principal, map[string]string{"AZURE_CLIENT_CERTIFICATE_PATH": certificateFile(t)}), "certificate"},
		"workload":    {"workload", "", merge(principal, map[string]string{"AZURE_FEDERATED_TOKEN_FILE": tokenFile}), "workload"},
		"GitHub":      {"github", "", merge(principal, gitHub), "github for api://AzureADTokenExchange"},
		"GitHub, US":  {"github", spec.USGovCloud, merge(principal, gitHub), "github for api://AzureADTokenExchangeUSGov"},
		"GitHub, CN":  {"github", spec.ChinaCloud, merge(principal, gitHub), "github for api://AzureADTokenExchangeChina"},
		"Azure Pipelines": {"pipelines", "", map[string]string{"SYSTEM_OIDCREQUESTURI": e.URL + "/pipelines", "SYSTEM_ACCESSTOKEN": secret,
			"AZURESUBSCRIPTION_TENANT_ID": tenant, "AZURESUBSCRIPTION_CLIENT_ID": clientID, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": connection},
			"pipelines for " + connection},
	} {
		t.Run(name, func(t *testing.T) {
			for _, auth := range []string{test.by, AuthAuto, ""} {
				e.asked = nil
				if err := e.signIn(t.Context(), Identity{Auth: auth, Cloud: test.cloud}, test.environment); err != nil {
					t.Fatalf("--auth %q: %v", auth, err)
				}
				if diff := cmp.Diff([]string{test.want}, e.asked); diff != "" {
					t.Errorf("--auth %q: %s", auth, diff)
				}
			}
		})
	}
}

func TestSignInByAz(t *testing.T) {
	e := startEntra(t)
	az(t, true)
	noMetadata(t, e)
	c, err := e.chain(Identity{SubscriptionID: "00000000-0000-0000-0000-00000000000a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // az takes a second and keeps nothing: it is asked once
		if _, err := c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{armScope}}); err != nil {
			t.Fatal(err)
		}
	}
	calls, err := os.ReadFile(filepath.Join(strings.Split(os.Getenv("PATH"), ":")[0], "calls"))
	if err != nil {
		t.Fatal(err)
	}
	if want := "account get-access-token -o json --resource https://management.azure.com --subscription 00000000-0000-0000-0000-00000000000a\n"; string(calls) != want {
		t.Errorf("got %q, want %q", calls, want)
	}
}

func TestSignInByMetadata(t *testing.T) {
	e := startEntra(t)
	az(t, false)
	t.Setenv("IDENTITY_ENDPOINT", e.URL+"/msi")
	t.Setenv("IDENTITY_HEADER", secret)
	for _, auth := range []string{"managed", AuthAuto} {
		for _, id := range []string{"", clientID} {
			if err := e.signIn(t.Context(), Identity{Auth: auth}, map[string]string{"AZURE_CLIENT_ID": id}); err != nil {
				t.Fatalf("%s: %v", auth, err)
			}
			if want := "managed " + id; !slices.Contains(e.asked, want) {
				t.Errorf("%s: asked %q, want %q", auth, e.asked, want)
			}
		}
	}
}

// Who cannot sign in is told what was tried, and what each lacks; no secret is in it.
func TestNobodySignsIn(t *testing.T) {
	e := startEntra(t)
	az(t, false)
	noMetadata(t, e)
	principal := map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": clientID}
	withSecret := merge(principal, map[string]string{"AZURE_CLIENT_SECRET": secret})
	for name, test := range map[string]struct {
		auth        string
		environment map[string]string
		refuse      string
		want        []string
		not         string
	}{
		"nothing is set up": {environment: nil, want: []string{
			"no Azure identity could sign in; tried env: AZURE_TENANT_ID, AZURE_CLIENT_ID not set; workload: AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE not set; github: ACTIONS_ID_TOKEN_REQUEST_URL,",
			"; pipelines: SYSTEM_OIDCREQUESTURI,", "cli: AzureCLICredential: ERROR: Please run 'az login' to setup account.", "managed: HTTP 404"}},
		"one is asked for": {auth: "workload", environment: principal, want: []string{"tried workload: AZURE_FEDERATED_TOKEN_FILE not set"}, not: "az login' to"},
		"az alone":         {auth: "cli", want: []string{"sign in to Azure by cli: AzureCLICredential: ERROR: Please run 'az login'"}},
		// The next one would be somebody else, with other rights.
		"a wrong secret ends the search": {environment: withSecret, refuse: "AADSTS7000215", want: []string{"sign in to Azure by env: HTTP 401 Unauthorized: AADSTS7000215: it is not right."}, not: "Trace"},
		"of azidentity's variable":       {environment: map[string]string{CredentialsVariable: "prod"}, want: []string{"tried env: ", "; workload: ", "; managed: "}, not: "github"},
		"no such certificate":            {auth: "env", environment: merge(principal, map[string]string{"AZURE_CLIENT_CERTIFICATE_PATH": "/nowhere.pem"}), want: []string{"sign in to Azure by env: AZURE_CLIENT_CERTIFICATE_PATH: open /nowhere.pem"}},
	} {
		t.Run(name, func(t *testing.T) {
			e.refuse = test.refuse
			err := e.signIn(t.Context(), Identity{Auth: test.auth}, test.environment)
			if err == nil {
				t.Fatal("somebody signed in")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %q", want, err)
				}
			}
			if strings.Contains(err.Error(), secret) || test.not != "" && strings.Contains(err.Error(), test.not) {
				t.Errorf("it says too much: %q", err)
			}
			if reconcile.ReasonOf(err) != reconcile.ReasonForbidden || reconcile.HintOf(err) == "" {
				t.Errorf("reason %q, hint %q", reconcile.ReasonOf(err), reconcile.HintOf(err))
			}
		})
	}
}

func TestUnknownIdentity(t *testing.T) {
	for _, test := range []struct {
		who         Identity
		environment map[string]string
		want        string
	}{
		{Identity{Auth: "azcli"}, nil, "--auth azcli: it is auto or one of env, workload, github, pipelines, cli, managed"},
		{Identity{}, map[string]string{AuthVariable: "msi"}, AuthVariable + " msi: it is auto or one of"},
		{Identity{}, map[string]string{CredentialsVariable: "VisualStudioCodeCredential"}, "names no identity that amlaks knows"},
		{Identity{Cloud: "AzureGermanCloud"}, nil, `cloud "AzureGermanCloud": it is AzureCloud, AzureUSGovernment or AzureChinaCloud`},
	} {
		_, err := Connect(func(name string) string { return test.environment[name] }, "0.0.0-test", true, test.who)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.who, err, test.want)
		}
	}
}

// A sovereign cloud has its own Resource Manager, and its own audience.
func TestClouds(t *testing.T) {
	for name, want := range map[string]string{
		spec.PublicCloud: "https://management.azure.com", spec.USGovCloud: "https://management.usgovcloudapi.net", spec.ChinaCloud: "https://management.chinacloudapi.cn",
	} {
		connection, err := Connect(func(string) string { return "" }, "0.0.0-test", true, Identity{Cloud: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := connection.Options.Cloud.Services[cloud.ResourceManager].Endpoint; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		authority := connection.Credential.(*chain).setup.client.Cloud.ActiveDirectoryAuthorityHost
		if want := clouds[name].ActiveDirectoryAuthorityHost; authority != want || authority == "" {
			t.Errorf("%s: authority %s, want %s", name, authority, want)
		}
	}
}

// To sign in is a POST, which the connection of a command that only reads would refuse.
func TestReadersSignIn(t *testing.T) {
	connection, err := Connect(func(string) string { return "" }, "0.0.0-test", true, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	if policies := connection.Credential.(*chain).setup.client.PerCallPolicies; len(policies) > 0 {
		t.Errorf("the way to Entra has %d policies of the way to Resource Manager", len(policies))
	}
}
