package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// acrUser is the user name that goes with an ACR refresh token.
	acrUser = "00000000-0000-0000-0000-000000000000"
	// acrScope is what registries of every cloud take tokens for.
	acrScope        = "https://containerregistry.azure.net/.default"
	exchangeTimeout = 30 * time.Second
	maxExchange     = 1 << 20
)

// ACRKeychain signs in to Azure Container Registries, and to nothing else, with an Entra
// identity: its token is exchanged for one of the registry.
func ACRKeychain(credential azcore.TokenCredential) authn.Keychain { return acrKeychain{credential} }

type acrKeychain struct{ credential azcore.TokenCredential }

// Resolve implements authn.Keychain.
func (k acrKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (k acrKeychain) ResolveContext(ctx context.Context, target authn.Resource) (authn.Authenticator, error) {
	registry := target.RegistryStr()
	for _, suffix := range []string{".azurecr.io", ".azurecr.cn", ".azurecr.us"} {
		if strings.HasSuffix(registry, suffix) {
			refresh, err := k.exchange(ctx, registry)
			if err != nil {
				return nil, fmt.Errorf("sign in to %s: %w", registry, err)
			}
			return &authn.Basic{Username: acrUser, Password: refresh}, nil
		}
	}
	return authn.Anonymous, nil
}

// exchange trades an Entra token for the registry's refresh token (about three hours).
func (k acrKeychain) exchange(ctx context.Context, registry string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTimeout)
	defer cancel()
	token, err := k.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{acrScope}})
	if err != nil {
		return "", err
	}
	form := url.Values{"grant_type": {"access_token"}, "service": {registry}, "access_token": {token.Token}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+registry+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("token exchange: HTTP %s", response.Status)
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxExchange)).Decode(&answer); err != nil {
		return "", fmt.Errorf("token exchange: %w", err)
	}
	return answer.RefreshToken, nil
}
