package azure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// Identity is who amlaks is to Azure, and in which cloud.
type Identity struct {
	// Auth is one of the Methods; empty: AuthAuto.
	Auth string
	// Cloud is the az command's name of the cloud (spec.Workspace.Cloud); empty: AzureCloud.
	Cloud string
	// SubscriptionID picks among the accounts that the az command is signed in to.
	SubscriptionID string
}

// AuthAuto takes the first of the methods that is set up where amlaks runs.
const AuthAuto = "auto"

// Variables that say how to sign in. The second is azidentity's own.
const (
	AuthVariable        = "AMLAKS_AUTH"
	CredentialsVariable = "AZURE_TOKEN_CREDENTIALS"
)

// Methods are the ways to sign in, in the order in which AuthAuto looks for them, which is
// that of azidentity's DefaultAzureCredential, with two for pipelines, and with the metadata
// service last: outside Azure it costs a wait to find out that there is none.
func Methods() []string {
	names := make([]string, len(methods))
	for i, m := range methods {
		names[i] = m.name
	}
	return names
}

// fromAzidentity are the values of CredentialsVariable as methods.
var fromAzidentity = map[string][]string{
	"dev": {"cli"}, "prod": {"env", "workload", "managed"},
	"environmentcredential": {"env"}, "workloadidentitycredential": {"workload"},
	"managedidentitycredential": {"managed"}, "azureclicredential": {"cli"},
}

// clouds are named as the az command names them (az cloud list).
var clouds = map[string]cloud.Configuration{
	"": cloud.AzurePublic, spec.PublicCloud: cloud.AzurePublic,
	spec.USGovCloud: cloud.AzureGovernment, spec.ChinaCloud: cloud.AzureChina,
}

// chain is a credential that signs in by the first of its methods that is set up, and stays
// with it. One that is set up and fails ends the search: the next would be somebody else.
type chain struct {
	methods []method
	setup   setup

	mu     sync.Mutex
	chosen azcore.TokenCredential
	by     string
	tokens map[string]azcore.AccessToken // by scope and tenant: the az command keeps none
}

// newChain gives the credential of an identity.
func newChain(s setup) (*chain, error) {
	wanted, from := []string{s.identity.Auth}, "--auth"
	if s.identity.Auth == "" {
		wanted, from = []string{s.getenv(AuthVariable)}, AuthVariable
	}
	if wanted[0] == "" || wanted[0] == AuthAuto {
		wanted = Methods()
		if value := s.getenv(CredentialsVariable); value != "" {
			if wanted = fromAzidentity[strings.ToLower(value)]; wanted == nil {
				return nil, fmt.Errorf("%s=%s names no identity that amlaks knows: use --auth with one of %s", CredentialsVariable, value, strings.Join(Methods(), ", "))
			}
		}
	}
	c := &chain{setup: s, tokens: map[string]azcore.AccessToken{}}
	for _, name := range wanted {
		i := slices.IndexFunc(methods, func(m method) bool { return m.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%s %s: it is %s or one of %s", from, name, AuthAuto, strings.Join(Methods(), ", "))
		}
		c.methods = append(c.methods, methods[i])
	}
	return c, nil
}

const (
	// tokenSlack is how long a kept token must still last. Entra's own last an hour.
	tokenSlack = 5 * time.Minute
	// probeTimeout bounds the look for an identity that can only be found by asking for it.
	probeTimeout = 10 * time.Second
)

// GetToken implements azcore.TokenCredential.
func (c *chain) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := strings.Join(append([]string{options.TenantID}, options.Scopes...), " ")
	if token, ok := c.tokens[key]; ok && options.Claims == "" && time.Until(token.ExpiresOn) > tokenSlack {
		return token, nil
	}
	token, err := c.token(ctx, options)
	if err == nil {
		c.tokens[key] = token
	}
	return token, err
}

func (c *chain) token(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if c.chosen != nil {
		token, err := c.chosen.GetToken(ctx, options)
		return token, signInError(ctx, c.by, err)
	}
	var tried []string
	for _, m := range c.methods {
		credential, err := m.credential(c.setup)
		if missing := (notSetUp)(""); errors.As(err, &missing) {
			tried = append(tried, m.name+": "+string(missing))
			continue
		}
		if err != nil {
			return azcore.AccessToken{}, signInError(ctx, m.name, err)
		}
		token, err := m.try(ctx, credential, options, len(c.methods) > 1)
		switch {
		case err == nil:
			c.chosen, c.by = credential, m.name
			return token, nil
		case ctx.Err() == nil && m.probed && len(c.methods) > 1:
			tried = append(tried, m.name+": "+brief(err))
		default:
			return azcore.AccessToken{}, signInError(ctx, m.name, err)
		}
	}
	return azcore.AccessToken{}, &reconcile.Failure{
		Reason: reconcile.ReasonForbidden,
		Err:    fmt.Errorf("no Azure identity could sign in; tried %s", strings.Join(tried, "; ")),
		Hint:   "az login, or set up one of them; --auth picks one and says only what that lacks",
	}
}

// try asks for a token; one of several that are only found by asking is not waited for long.
func (m method) try(ctx context.Context, credential azcore.TokenCredential, options policy.TokenRequestOptions, several bool) (azcore.AccessToken, error) {
	if m.probed && several {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probeTimeout)
		defer cancel()
	}
	return credential.GetToken(ctx, options)
}

func signInError(ctx context.Context, by string, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonForbidden,
		Err:    fmt.Errorf("sign in to Azure by %s: %s", by, brief(err)),
		Hint:   "mend that, or pick another identity with --auth: " + strings.Join(Methods(), ", "),
	}
	if by == "cli" {
		failure.Hint = "az login, or pick another identity with --auth: " + strings.Join(Methods(), ", ")
	}
	return failure
}
