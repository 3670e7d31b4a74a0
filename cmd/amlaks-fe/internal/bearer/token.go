package bearer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"
)

const (
	// maxDiscovery bounds what is read of the API server's documents; a key set
	// with ten 4096 bit keys has about 8 KiB.
	maxDiscovery = 1 << 20
	// refetch is how often a token with an unknown key may send us to the API
	// server. Kubernetes publishes a new key before it signs with it, so the wait
	// costs honest clients nothing, and garbage cannot make us flood it.
	refetch = 5 * time.Second
	// rediscover is how old a known issuer may be when a token does not verify.
	// Enabling AKS' OIDC issuer changes it on a running cluster.
	rediscover = time.Minute
)

// errBusy is what a key fetch beyond the allowed rate gets.
var errBusy = errors.New("the keys were asked for a moment ago")

// Tokens verifies tokens of the Kubernetes TokenRequest API without asking the
// API server for each: it keeps the server's public keys.
type Tokens struct {
	server string
	client *http.Client

	mu       sync.Mutex
	keys     *oidc.RemoteKeySet
	issuer   string
	learned  time.Time
	attempts *rate.Limiter
}

// NewTokens verifies against the API server at this URL; transport brings the
// credentials that it wants.
func NewTokens(server string, transport http.RoundTripper) *Tokens {
	t := &Tokens{server: server, attempts: rate.NewLimiter(rate.Every(refetch), 2)}
	t.client = &http.Client{Timeout: 10 * time.Second, Transport: bounded{transport, rate.NewLimiter(rate.Every(refetch), 3)}}
	t.keys = oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), t.client), server+"/openid/v1/jwks")
	return t
}

// Verify checks signature, issuer, expiry, audience and, unless empty, subject.
func (t *Tokens) Verify(ctx context.Context, token, audience, subject string) error {
	if audience == "" {
		return errors.New("the route names no audience")
	}
	issuer, fresh, err := t.discover(ctx, rediscover)
	if err != nil {
		return err
	}
	err = t.verify(ctx, issuer, token, audience, subject)
	if err == nil || fresh {
		return err
	}
	again, _, discoverErr := t.discover(ctx, 0)
	if discoverErr != nil || again == issuer {
		return err
	}
	return t.verify(ctx, again, token, audience, subject)
}

func (t *Tokens) verify(ctx context.Context, issuer, token, audience, subject string) error {
	verifier := oidc.NewVerifier(issuer, t.keys, &oidc.Config{
		ClientID:             audience,
		SupportedSigningAlgs: []string{oidc.RS256, oidc.ES256, oidc.ES384, oidc.ES512},
	})
	id, err := verifier.Verify(ctx, token)
	if err != nil {
		return fmt.Errorf("verify token: %w", err)
	}
	if subject != "" && id.Subject != subject {
		return fmt.Errorf("verify token: subject is %q, want %q", id.Subject, subject)
	}
	return nil
}

// discover returns the cluster's issuer; fresh means younger than maxAge. An
// old answer is better than none.
func (t *Tokens) discover(ctx context.Context, maxAge time.Duration) (issuer string, fresh bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.issuer != "" && maxAge > 0 {
		return t.issuer, time.Since(t.learned) < maxAge, nil
	}
	if !t.attempts.Allow() {
		if t.issuer == "" {
			return "", false, fmt.Errorf("discover issuer: %w", errBusy)
		}
		return t.issuer, true, nil
	}
	issuer, err = t.fetchIssuer(ctx)
	if err != nil {
		return "", false, fmt.Errorf("discover issuer: %w", err)
	}
	t.issuer, t.learned = issuer, time.Now()
	return issuer, true, nil
}

func (t *Tokens) fetchIssuer(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.server+"/.well-known/openid-configuration", nil)
	if err != nil {
		return "", err
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the API server says %s", resp.Status)
	}
	var document struct {
		Issuer string `json:"issuer"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&document); err != nil {
		return "", err
	}
	if document.Issuer == "" {
		return "", errors.New("the API server names no issuer")
	}
	return document.Issuer, nil
}

// bounded limits how often and how much is read.
type bounded struct {
	next  http.RoundTripper
	limit *rate.Limiter
}

func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	if !b.limit.Allow() {
		return nil, errBusy
	}
	resp, err := b.next.RoundTrip(req)
	if err == nil {
		resp.Body = limitedBody{io.LimitReader(resp.Body, maxDiscovery), resp.Body}
	}
	return resp, err
}

type limitedBody struct {
	io.Reader
	io.Closer
}
