package certificate_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/amlaks/amlaks/reconcile/kube/certificate"
	"github.com/amlaks/amlaks/reconcile/kube/certificate/certificatetest"
)

const host = "score.example.com"

// fails wants an error that holds the words.
func fails(t *testing.T, err error, words string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("it was taken, want %q", words)
	case !strings.Contains(err.Error(), words):
		t.Errorf("%q, want %q", err, words)
	case strings.Contains(err.Error(), "BEGIN"):
		t.Errorf("it quotes the file: %s", err)
	}
}

func TestSpellings(t *testing.T) {
	root := certificatetest.Root(t)
	intermediate := root.Intermediate(t)
	leaf := intermediate.Issue(t, host, nil)
	chain, key := leaf.PEM(t)
	want, err := certificate.FromPEM(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := want.Check(host, time.Now()); err != nil {
		t.Error(err)
	}
	if _, err := tls.X509KeyPair(want.Chain, want.Key); err != nil {
		t.Errorf("TLS does not take what was read: %v", err)
	}
	pfx, err := pkcs12.Modern.Encode(leaf.Key, leaf.Cert, []*x509.Certificate{root.Cert, intermediate.Cert}, "")
	if err != nil {
		t.Fatal(err)
	}
	old, err := pkcs12.LegacyRC2.Encode(leaf.Key, leaf.Cert, []*x509.Certificate{intermediate.Cert}, "")
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	comment := []byte("Bag Attributes\r\n  friendlyName: score\r\n")
	for name, read := range map[string]func() (*certificate.Certificate, error){
		"with comments": func() (*certificate.Certificate, error) {
			return certificate.FromPEM(slices.Concat(comment, chain), slices.Concat(comment, key))
		},
		"both in one file": func() (*certificate.Certificate, error) {
			both := slices.Concat(key, chain)
			return certificate.FromPEM(both, both)
		},
		"EC key as SEC 1": func() (*certificate.Certificate, error) {
			parsed, err := x509.ParsePKCS8PrivateKey(ec)
			if err != nil {
				return nil, err
			}
			return certificate.FromPEM(chain, sec1(t, parsed))
		},
		"Key Vault PEM": func() (*certificate.Certificate, error) {
			return certificate.FromVault(string(key)+string(chain), certificate.TypePEM)
		},
		"Key Vault PEM, the issuer first": func() (*certificate.Certificate, error) {
			leafOnly := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Cert.Raw})
			issuer := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: intermediate.Cert.Raw})
			return certificate.FromVault(string(key)+string(issuer)+string(leafOnly), certificate.TypePEM)
		},
		"Key Vault PKCS #12, AES": func() (*certificate.Certificate, error) {
			return certificate.FromVault(base64.StdEncoding.EncodeToString(pfx), certificate.TypePKCS12)
		},
		"Key Vault PKCS #12, RC2": func() (*certificate.Certificate, error) {
			return certificate.FromVault(base64.StdEncoding.EncodeToString(old), certificate.TypePKCS12)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read()
			if err != nil {
				t.Fatal(err)
			}
			if got.SHA256() != want.SHA256() || string(got.Key) != string(want.Key) || !strings.HasPrefix(string(got.Chain), string(want.Chain)) {
				t.Errorf("it reads otherwise than as plain PEM: %s %s", got.Leaf.Subject, got.SHA256())
			}
		})
	}
}

func sec1(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

func TestUnusable(t *testing.T) {
	root := certificatetest.Root(t)
	intermediate := root.Intermediate(t)
	leaf := intermediate.Issue(t, host, nil)
	chain, key := leaf.PEM(t)
	_, otherKey := certificatetest.SelfSigned(t, host).PEM(t)
	block := func(c *certificatetest.Issued) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})
	}
	legacy := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte("x")})
	sealed := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	for _, test := range []struct {
		name       string
		chain, key []byte
		words      string
	}{
		{"nothing", nil, nil, "it has no PEM block CERTIFICATE\nthe key has no PEM block PRIVATE KEY"},
		{"another key", chain, otherKey, "the private key is not that of the certificate of score.example.com"},
		{"the leaf last", slices.Concat(block(intermediate), block(leaf)), key, "the chain is out of order: it begins with intermediate, and the key's own certificate is number 2"},
		{"a gap", slices.Concat(block(leaf), block(root)), key, "certificate 1, score.example.com, was not issued by certificate 2, root"},
		{"passphrase, PKCS #8", chain, sealed, "the private key has a passphrase"},
		{"passphrase, as OpenSSL 1 wrote it", chain, legacy, "the private key has a passphrase"},
		{"no certificate in the block", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), key, "certificate 1 cannot be read"},
		{"no key in the block", chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}), "the private key cannot be read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := certificate.FromPEM(test.chain, test.key)
			fails(t, err, test.words)
		})
	}
	locked, err := pkcs12.Modern.Encode(leaf.Key, leaf.Cert, nil, "secret")
	if err != nil {
		t.Fatal(err)
	}
	for contentType, test := range map[string]struct{ value, words string }{
		"":                     {"x", `it holds ""`},
		"text/plain":           {"x", `it holds "text/plain", and a certificate is application/x-pkcs12 or application/x-pem-file`},
		certificate.TypePKCS12: {base64.StdEncoding.EncodeToString(locked), "its PKCS #12 has a password"},
	} {
		_, err := certificate.FromVault(test.value, contentType)
		fails(t, err, test.words)
	}
	_, err = certificate.FromVault("AAAA", certificate.TypePKCS12)
	fails(t, err, "its PKCS #12 cannot be read")
}

func TestCheck(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate, *crypto.Signer)
		cname  string
		words  []string
	}{
		{"wildcard", func(c *x509.Certificate, _ *crypto.Signer) { c.DNSNames = []string{"*.example.com"} }, host, nil},
		{"wildcard of one label only", func(c *x509.Certificate, _ *crypto.Signer) { c.DNSNames = []string{"*.example.com"} }, "a.b.example.com", []string{"it is not for a.b.example.com: it is for *.example.com"}},
		{"common name only", func(c *x509.Certificate, _ *crypto.Signer) { c.DNSNames = nil }, host, []string{"it is for no name at all"}},
		{"expired", func(c *x509.Certificate, _ *crypto.Signer) {
			c.NotAfter = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotBefore = c.NotAfter.Add(-time.Hour)
		}, host, []string{"it expired at 2026-01-02T03:04:05Z"}},
		{"not yet", func(c *x509.Certificate, _ *crypto.Signer) {
			c.NotBefore = time.Date(2096, 1, 2, 3, 4, 5, 0, time.UTC)
			c.NotAfter = c.NotBefore.Add(time.Hour)
		}, host, []string{"it is not valid before 2096-01-02T03:04:05Z"}},
		{"short RSA", func(_ *x509.Certificate, key *crypto.Signer) { *key = rsaKey(t, 1024) }, host, []string{"its RSA key has 1024 bits, and clients ask for 2048"}},
		{"RSA", func(_ *x509.Certificate, key *crypto.Signer) { *key = rsaKey(t, 2048) }, host, nil},
		{"Ed25519", func(_ *x509.Certificate, key *crypto.Signer) { _, *key, _ = ed25519.GenerateKey(rand.Reader) }, host, []string{"its key is Ed25519"}},
		{"for clients, and for another host", func(c *x509.Certificate, _ *crypto.Signer) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, "other.example.com", []string{"lacks serverAuth", "it is not for other.example.com"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := certificate.FromPEM(certificatetest.Root(t).Issue(t, host, test.change).PEM(t))
			if err != nil {
				t.Fatal(err)
			}
			err = c.Check(test.cname, now)
			if test.words == nil && err != nil {
				t.Error(err)
			}
			for _, words := range test.words {
				fails(t, err, words)
			}
			if expired := (certificate.Expired{}); errors.As(err, &expired) != (test.name == "expired") {
				t.Errorf("expired: %v", err)
			}
		})
	}
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0") // else Go makes none that is weak
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
