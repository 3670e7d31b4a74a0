package kube

import (
	"cmp"
	"context"
	"crypto/x509"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/amlaks/amlaks/reconcile/kube/certificate"
)

// Endpoint is how a cluster's front end is reached.
type Endpoint struct {
	// Address is what clients call: http://HOST[:PORT], where HOST is the name of its DNS label
	// if it has one, or https://CNAME[:PORT]. Empty while it is not reached from outside.
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

// annotationDNSLabel makes Azure's cloud provider name the public address. Taken away, the name
// stays on the address as long as that lives.
const annotationDNSLabel = "service.beta.kubernetes.io/azure-dns-label-name"

// annotationRegion is where the cluster is, which is part of that name.
const annotationRegion = "amlaks.io/region"

var regionName = regexp.MustCompile(`^[a-z0-9]+$`)

// publicName is the DNS name of the Service's public address; empty if it has none.
func publicName(service *corev1.Service) string {
	label, region := service.Annotations[annotationDNSLabel], strings.ToLower(strings.ReplaceAll(service.Annotations[annotationRegion], " ", ""))
	if label == "" || !regionName.MatchString(region) {
		return ""
	}
	domain := "cloudapp.azure.com"
	switch {
	case strings.HasPrefix(region, "china"):
		domain = "cloudapp.chinacloudapi.cn"
	case strings.HasPrefix(region, "usgov"), strings.HasPrefix(region, "usdod"):
		domain = "cloudapp.usgovcloudapi.net"
	}
	return label + "." + region + "." + domain
}

// ingress is the host and the port at which the Service is reached from outside; no host if
// it is not, or not yet.
func ingress(service *corev1.Service) (host string, port int) {
	for _, p := range service.Spec.Ports {
		port = int(p.Port)
	}
	for _, i := range service.Status.LoadBalancer.Ingress {
		if host = cmp.Or(i.IP, i.Hostname); host != "" {
			break
		}
	}
	return host, port
}

// frontEndAddress is what clients call; empty if the Service is not reached from outside.
func frontEndAddress(service *corev1.Service) string {
	host, port := ingress(service)
	if host == "" {
		return ""
	}
	scheme, usual := "http", 80
	host = cmp.Or(publicName(service), host)
	if cname := service.Annotations[annotationCName]; cname != "" {
		scheme, usual, host = "https", 443, cname
	}
	if port == usual {
		return scheme + "://" + host
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

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
