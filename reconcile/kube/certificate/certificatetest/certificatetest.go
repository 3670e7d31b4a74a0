// Package certificatetest issues certificates for tests.
package certificatetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"time"
)

// T is what a test is to this package: a *testing.T, for one.
type T interface {
	Helper()
	Fatal(...any)
}

// Issued is a certificate with its key, and its issuers up to the root.
type Issued struct {
	Cert   *x509.Certificate
	Key    crypto.Signer
	Issuer *Issued // nil: it is self-signed
}

// Root makes a certificate authority.
func Root(t T) *Issued {
	t.Helper()
	return (*Issued)(nil).issue(t, "root", true, nil)
}

// Intermediate makes an authority below another.
func (i *Issued) Intermediate(t T) *Issued {
	t.Helper()
	return i.issue(t, "intermediate", true, nil)
}

// Issue makes a server's certificate of 90 days for a host name; change may alter it before
// it is signed, or give it another key.
func (i *Issued) Issue(t T, host string, change func(*x509.Certificate, *crypto.Signer)) *Issued {
	t.Helper()
	return i.issue(t, host, false, change)
}

// SelfSigned makes a server's certificate that nobody issued.
func SelfSigned(t T, host string) *Issued {
	t.Helper()
	return (*Issued)(nil).issue(t, host, false, nil)
}

func (i *Issued) issue(t T, name string, authority bool, change func(*x509.Certificate, *crypto.Signer)) *Issued {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour), BasicConstraintsValid: true,
	}
	if authority {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
	} else {
		template.DNSNames, template.KeyUsage = []string{name}, x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	key := crypto.Signer(private)
	if change != nil {
		change(template, &key)
	}
	parent, signer := template, key
	if i != nil {
		parent, signer = i.Cert, i.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Issued{Cert: cert, Key: key, Issuer: i}
}

// PEM gives its chain without the root, unless it is the root, and its key as PKCS #8.
func (i *Issued) PEM(t T) (chain, key []byte) {
	t.Helper()
	for c := i; c != nil && (c.Issuer != nil || c == i); c = c.Issuer {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Cert.Raw})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(i.Key)
	if err != nil {
		t.Fatal(err)
	}
	return chain, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
