package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificateLife is AKS's own for cluster certificates of a user: long, as
// nothing here renews them.
const certificateLife = 10 * 365 * 24 * time.Hour

// pki is the folder of a cluster's keys and certificates: NAME.crt and NAME.key
// for each. They are made once and kept.
type pki struct{ dir string }

func (p pki) cert(name string) string { return filepath.Join(p.dir, name+".crt") }
func (p pki) key(name string) string  { return filepath.Join(p.dir, name+".key") }

// The names. etcd has an authority of its own: what the cluster's authority
// signs must not open etcd.
const (
	certCA        = "ca"
	certEtcdCA    = "etcd-ca"
	certEtcd      = "etcd"
	certAPIServer = "kube-apiserver"
	certKubelet   = "kubelet"
	certToKubelet = "kube-apiserver-kubelet-client"
	certAdmin     = "admin"
	keyTokens     = "service-account"
)

// ensure makes what is missing. address is where everything listens.
func (p pki) ensure(address string) error {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return err
	}
	// The token key is written last: its presence says that all others are there.
	if _, err := os.Stat(p.key(keyTokens)); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	ca, err := p.authority(certCA, "kubernetes")
	if err != nil {
		return err
	}
	etcdCA, err := p.authority(certEtcdCA, "etcd")
	if err != nil {
		return err
	}
	here := []net.IP{net.ParseIP(address), net.IPv4(127, 0, 0, 1)}
	for _, c := range []struct {
		name, commonName, organization string
		by                             *authority
		ips                            []net.IP
		dns                            []string
	}{
		{certEtcd, "etcd", "", etcdCA, here, []string{"localhost"}},
		{certAPIServer, "kube-apiserver", "", ca, here, []string{
			"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}},
		{certKubelet, "system:node:sandbox", "system:nodes", ca, here, nil},
		{certToKubelet, "kube-apiserver-kubelet-client", "", ca, nil, nil},
		{certAdmin, "clusterAdmin", "system:masters", ca, nil, nil},
	} {
		if err := p.issue(c.name, c.commonName, c.organization, c.by, c.ips, c.dns); err != nil {
			return fmt.Errorf("issue certificate %s: %w", c.name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return writeKey(p.key(keyTokens), key)
}

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p pki) authority(name, commonName string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := certificate(commonName, "")
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	// The authorities' keys are not kept: nothing is issued later.
	return &authority{cert, key}, writePEM(p.cert(name), "CERTIFICATE", der, 0o644)
}

func (p pki) issue(name, commonName, organization string, by *authority, ips []net.IP, dns []string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template, err := certificate(commonName, organization)
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(ips) > 0 {
		// etcd's server certificate is also its client certificate to its peers.
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	template.IPAddresses, template.DNSNames = ips, dns
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, key.Public(), by.key)
	if err != nil {
		return err
	}
	if err := writeKey(p.key(name), key); err != nil {
		return err
	}
	return writePEM(p.cert(name), "CERTIFICATE", der, 0o644)
}

func certificate(commonName, organization string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	c := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    time.Now().Add(-time.Hour), // clocks of a machine may step back
		NotAfter:     time.Now().Add(certificateLife),
	}
	if organization != "" {
		c.Subject.Organization = []string{organization}
	}
	return c, nil
}

func writeKey(name string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(name, "EC PRIVATE KEY", der, 0o600)
}

func writePEM(name, kind string, der []byte, mode fs.FileMode) error {
	return writeFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}
