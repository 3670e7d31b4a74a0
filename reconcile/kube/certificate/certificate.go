// Package certificate reads the certificate of a front end from what a stack refers to, PEM
// or PKCS #12, and says everything that would keep clients from accepting it.
//
// It knows no Azure and no Kubernetes, reads no file and sends no request. Errors name
// certificates, never keys.
package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	"software.sslmate.com/src/go-pkcs12"
)

// Content types of a Key Vault secret that holds a certificate with its key (the issuance
// policy's secret_props.contentType).
const (
	TypePKCS12 = "application/x-pkcs12"
	TypePEM    = "application/x-pem-file"
)

const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
	// maxChain is more than any public issuer has; Key Vault takes no longer ones either.
	maxChain = 20
)

// Certificate is a leaf with its key and the certificates of its issuers, each one by the next.
type Certificate struct {
	// Chain and Key are PEM in one spelling, the key as PKCS #8: the same certificate gives
	// the same bytes, however it was written. Key is a secret.
	Chain, Key []byte
	Leaf       *x509.Certificate
}

// SHA256 is the fingerprint of the certificate, as openssl and browsers compute it: of the
// leaf's DER, in lower-case hex without colons.
func (c *Certificate) SHA256() string { return Fingerprint(c.Leaf) }

// Fingerprint is that of one certificate; see [Certificate.SHA256].
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// Date writes when a certificate ends: the day for people, the second for programs.
func Date(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// FromPEM reads a chain, the leaf first, and the leaf's key. Either may hold blocks of the
// other's kind, which are left alone.
func FromPEM(chain, key []byte) (*Certificate, error) {
	private, keyErr := parseKey(key)
	certs, chainErr := Chain(chain)
	if err := errors.Join(chainErr, keyErr); err != nil {
		return nil, err
	}
	return compose(certs, private, false)
}

// FromVault reads the value of the Key Vault secret that stands behind a Key Vault
// certificate. Key Vault promises no order of a chain, so this one is put in order.
func FromVault(value, contentType string) (*Certificate, error) {
	switch contentType {
	case TypePEM:
		private, keyErr := parseKey([]byte(value))
		certs, chainErr := Chain([]byte(value))
		if err := errors.Join(chainErr, keyErr); err != nil {
			return nil, err
		}
		return compose(certs, private, true)
	case TypePKCS12:
		pfx, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
		if err != nil {
			return nil, errors.New("its value is not base64")
		}
		// Key Vault exports without a password.
		private, leaf, issuers, err := pkcs12.DecodeChain(pfx, "")
		if errors.Is(err, pkcs12.ErrIncorrectPassword) {
			return nil, errors.New("its PKCS #12 has a password; take the one out that it was imported with")
		}
		if err != nil {
			return nil, fmt.Errorf("its PKCS #12 cannot be read: %w", err)
		}
		return compose(append([]*x509.Certificate{leaf}, issuers...), private, true)
	}
	return nil, fmt.Errorf("it holds %q, and a certificate is %s or %s", contentType, TypePKCS12, TypePEM)
}

// Chain reads the certificates of a PEM text.
func Chain(text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d cannot be read: %w", len(certs)+1, err)
		}
		if certs = append(certs, cert); len(certs) > maxChain {
			return nil, fmt.Errorf("it has more than %d certificates", maxChain)
		}
	}
	if len(certs) == 0 {
		return nil, errors.New("it has no PEM block CERTIFICATE")
	}
	return certs, nil
}

// parseKey reads the first private key of a PEM text. What it says never quotes the text.
func parseKey(text []byte) (crypto.PrivateKey, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case pemKey:
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errPassphrase
			}
			if block.Type == "RSA PRIVATE KEY" {
				key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
			} else {
				key, err = x509.ParseECPrivateKey(block.Bytes)
			}
		case "ENCRYPTED PRIVATE KEY":
			return nil, errPassphrase
		default:
			continue
		}
		if err != nil {
			return nil, errors.New("the private key cannot be read")
		}
		return key, nil
	}
	return nil, errors.New("the key has no PEM block PRIVATE KEY")
}

var errPassphrase = errors.New("the private key has a passphrase: take it off (openssl pkey -in KEY -out PLAIN), and keep the file from others")

// compose brings a chain and a key together; anyOrder puts the chain in order, instead of
// asking for it.
func compose(certs []*x509.Certificate, key crypto.PrivateKey, anyOrder bool) (*Certificate, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, and TLS needs RSA or ECDSA", key)
	}
	at := -1
	for i, c := range certs {
		if public, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); ok && public.Equal(signer.Public()) {
			at = i
			break
		}
	}
	switch {
	case at < 0:
		return nil, fmt.Errorf("the private key is not that of the certificate of %s", name(certs[0]))
	case at > 0 && !anyOrder:
		return nil, fmt.Errorf("the chain is out of order: it begins with %s, and the key's own certificate is number %d", name(certs[0]), at+1)
	case anyOrder:
		certs = ordered(certs, at)
	}
	for i := range len(certs) - 1 {
		if certs[i].CheckSignatureFrom(certs[i+1]) != nil {
			return nil, fmt.Errorf("the chain is out of order: certificate %d, %s, was not issued by certificate %d, %s", i+1, name(certs[i]), i+2, name(certs[i+1]))
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("the private key cannot be read")
	}
	var chain bytes.Buffer
	for _, c := range certs {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: c.Raw}))
	}
	return &Certificate{Chain: chain.Bytes(), Key: pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), Leaf: certs[0]}, nil
}

// ordered gives the leaf and then each issuer that is there; what issued none of them is left out.
func ordered(certs []*x509.Certificate, leaf int) []*x509.Certificate {
	out := []*x509.Certificate{certs[leaf]}
	for len(out) < len(certs) {
		last := out[len(out)-1]
		next := -1
		for i, c := range certs {
			if !c.Equal(last) && bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil {
				next = i
				break
			}
		}
		if next < 0 || bytes.Equal(last.RawSubject, last.RawIssuer) {
			break
		}
		out = append(out, certs[next])
	}
	return out
}

// minRSA is what clients ask for since 2013 (CA/Browser Forum, Baseline Requirements 6.1.5).
const minRSA = 2048

// Check gives what keeps clients from accepting the certificate for a host name, all of it;
// [Expired] is among it if it is.
func (c *Certificate) Check(cname string, now time.Time) error {
	var problems []error
	if err := c.Leaf.VerifyHostname(cname); err != nil {
		names := strings.Join(c.Leaf.DNSNames, ", ")
		if names == "" {
			names = "no name at all (clients look at subject alternative names only)"
		}
		problems = append(problems, fmt.Errorf("it is not for %s: it is for %s", cname, names))
	}
	switch {
	case now.After(c.Leaf.NotAfter):
		problems = append(problems, Expired{c.Leaf.NotAfter})
	case now.Before(c.Leaf.NotBefore):
		problems = append(problems, fmt.Errorf("it is not valid before %s", Date(c.Leaf.NotBefore)))
	}
	switch public := c.Leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSA {
			problems = append(problems, fmt.Errorf("its RSA key has %d bits, and clients ask for %d", bits, minRSA))
		}
	case *ecdsa.PublicKey:
	default:
		problems = append(problems, fmt.Errorf("its key is %s, which few TLS clients know: take ECDSA or RSA", c.Leaf.PublicKeyAlgorithm))
	}
	if !servesTLS(c.Leaf) {
		problems = append(problems, errors.New("it is not for TLS servers: its extended key usage lacks serverAuth"))
	}
	return errors.Join(problems...)
}

func servesTLS(c *x509.Certificate) bool {
	for _, usage := range c.ExtKeyUsage {
		if usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny {
			return true
		}
	}
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0
}

// Expired says that a certificate's time is over.
type Expired struct{ NotAfter time.Time }

func (e Expired) Error() string { return "it expired at " + Date(e.NotAfter) }

// name tells certificates of a chain apart.
func name(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return c.Subject.String()
}
