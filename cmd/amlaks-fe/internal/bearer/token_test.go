package bearer

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

func sign(t *testing.T, key *rsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	payload, _ := json.Marshal(claims)
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestTokens(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const issuer = "https://issuer.example"
	var fetched atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched.Add(1)
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "jwks_uri": "https://unreachable.example"})
		case "/openid/v1/jwks":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	tokens := NewTokens(server.URL, http.DefaultTransport)

	const audience, subject = "amlaks:ns/churn", "system:serviceaccount:ns:churn"
	claims := func(change map[string]any) map[string]any {
		c := map[string]any{"iss": issuer, "aud": []string{audience}, "sub": subject, "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
		for k, v := range change {
			c[k] = v
		}
		return c
	}
	good := sign(t, key, "k1", claims(nil))
	for name, test := range map[string]struct {
		token string
		ok    bool
	}{
		"good":           {good, true},
		"other audience": {sign(t, key, "k1", claims(map[string]any{"aud": "amlaks:ns/other"})), false},
		"other subject":  {sign(t, key, "k1", claims(map[string]any{"sub": "system:serviceaccount:ns:other"})), false},
		"other issuer":   {sign(t, key, "k1", claims(map[string]any{"iss": "https://evil.example"})), false},
		"expired":        {sign(t, key, "k1", claims(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()})), false},
		"other key":      {sign(t, stranger, "k1", claims(nil)), false},
		"unknown key id": {sign(t, stranger, "k2", claims(nil)), false},
		"garbage":        {"a.b.c", false},
	} {
		if err := tokens.Verify(t.Context(), test.token, audience, subject); (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 100 {
		_ = tokens.Verify(t.Context(), sign(t, stranger, "k3", claims(nil)), audience, subject)
	}
	if n := fetched.Load(); n > 5 {
		t.Errorf("garbage made %d requests to the API server", n)
	}
	if err := tokens.Verify(t.Context(), good, audience, subject); err != nil {
		t.Errorf("a good token after garbage: %v", err)
	}
}
