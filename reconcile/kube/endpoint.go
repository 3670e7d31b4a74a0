package kube

import (
	"context"
	"crypto/x509"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/amlaks/amlaks/reconcile/kube/certificate"
)

// Endpoint is how a cluster's front end is reached.
type Endpoint struct {
	// Address is what clients call: http://HOST[:PORT], or https://CNAME[:PORT]. Empty while
	// the front end is not reached from outside.
	Address string
	// Host is the IP address or the host name of the load balancer itself, whatever DNS says of
	// CNAME, and Port the one that it listens on.
	Host string
	Port int
	// Certificate is what it was given for TLS; nil: it answers on plain http.
	Certificate *Certificate
}

// Certificate is that of a front end, as its cluster holds it.
type Certificate struct {
	CName    string
	SHA256   string // of the leaf, in hex
	Issuer   string
	NotAfter time.Time
	Chain    []*x509.Certificate // the leaf first
}

// Expires tells whether the certificate ends soon enough to be warned about, or has ended.
func (c *Certificate) Expires(now time.Time) bool { return now.Add(ExpiryWarning).After(c.NotAfter) }

// Endpoint reads how the cluster's front end is reached; all of it is empty before it is there.
func (c *Cluster) Endpoint(ctx context.Context) (Endpoint, error) {
	found, err := c.client.get(ctx, kindService, c.namespace, FrontEnd)
	if apierrors.IsNotFound(err) {
		return Endpoint{}, nil
	}
	if err != nil {
		return Endpoint{}, explain("read the front end's address", err)
	}
	service := found.(*corev1.Service)
	e := Endpoint{Address: frontEndAddress(service)}
	e.Host, e.Port = ingress(service)
	cname := service.Annotations[annotationCName]
	if cname == "" {
		return e, nil
	}
	found, err = c.client.get(ctx, kindSecret, c.namespace, TLSSecret)
	if apierrors.IsNotFound(err) {
		return e, nil
	}
	if err != nil {
		return Endpoint{}, explain("read the front end's certificate", err)
	}
	chain, err := certificate.Chain(found.(*corev1.Secret).Data[corev1.TLSCertKey])
	if err != nil {
		return e, nil // somebody else's hand; drift shows it
	}
	e.Certificate = &Certificate{CName: cname, SHA256: certificate.Fingerprint(chain[0]), Issuer: chain[0].Issuer.String(), NotAfter: chain[0].NotAfter, Chain: chain}
	return e, nil
}
