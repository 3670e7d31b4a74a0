package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/kube/certificate"
	"github.com/amlaks/amlaks/spec"
)

// frontEndClient calls a front end at its own address, whatever DNS says of its name by now.
// Over TLS it trusts the certificate that the stack gave it, and those of public issuers; a
// self-signed one is as safe as another this way, as its fingerprint comes from the cluster.
// It does not follow redirects, because a key must not travel on.
func frontEndClient(e kube.Endpoint) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(e.Host, strconv.Itoa(e.Port)))
		},
		ForceAttemptHTTP2: true, DisableKeepAlives: true,
	}
	if e.Certificate != nil {
		transport.TLSClientConfig = &tls.Config{
			// VerifyConnection does it: for what is trusted here there is no setting.
			InsecureSkipVerify: true, ServerName: e.Certificate.CName, MinVersion: tls.VersionTLS12,
			VerifyConnection: func(state tls.ConnectionState) error { return trust(e.Certificate, state, time.Now()) },
		}
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// untrustedError is a front end that shows neither the stack's certificate nor one of a public
// issuer for its name.
type untrustedError struct{ error }

func (e untrustedError) Unwrap() error { return e.error }

// trust decides on what a front end shows.
func trust(declared *kube.Certificate, state tls.ConnectionState, now time.Time) error {
	if len(state.PeerCertificates) == 0 {
		return untrustedError{errors.New("it shows no certificate")}
	}
	leaf := state.PeerCertificates[0]
	switch {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("its certificate expired at %s", certificate.Date(leaf.NotAfter))
	case certificate.Fingerprint(leaf) == declared.SHA256:
		return nil
	}
	intermediates := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: declared.CName, Intermediates: intermediates, CurrentTime: now}); err != nil {
		return untrustedError{fmt.Errorf("it shows the certificate SHA-256 %s and not %s, which the stack gave it: %w", certificate.Fingerprint(leaf), declared.SHA256, err)}
	}
	return nil
}

// takeOverTime is how long a front end may take to show a certificate that it was given.
const takeOverTime = 10 * time.Second

// atFrontEnd sends a request that call makes for an endpoint of the cluster. A front end that
// has only just been given another certificate is asked again: nothing has been sent by then.
func atFrontEnd(ctx context.Context, cluster *kube.Cluster, call func(kube.Endpoint) (*http.Request, error)) (*http.Response, error) {
	deadline := time.Now().Add(takeOverTime)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		e, err := cluster.Endpoint(ctx)
		if err != nil {
			return nil, err
		}
		if e.Address == "" {
			return nil, &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: errNoAddress, Hint: "apply first; with expose: clusterIP, kubectl port-forward reaches it"}
		}
		request, err := call(e)
		if err != nil {
			return nil, err
		}
		response, err := frontEndClient(e).Do(request)
		untrusted := untrustedError{}
		if err == nil || !errors.As(err, &untrusted) || time.Now().After(deadline) {
			return response, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-ticker.C:
		}
	}
}

// frontEndStatus is where a cluster's front end answers, and with which certificate.
type frontEndStatus struct {
	Cluster     string             `json:"cluster"`
	Address     string             `json:"address,omitempty"`
	Host        string             `json:"host,omitempty"` // the load balancer's own, for DNS
	Certificate *certificateStatus `json:"certificate,omitempty"`
}

type certificateStatus struct {
	CName    string `json:"cname"`
	SHA256   string `json:"sha256"`
	Issuer   string `json:"issuer"`
	NotAfter string `json:"notAfter"` // RFC 3339
	// Expires: it is to be renewed, or its time is over.
	Expires bool `json:"expires"`
}

func statusOf(cluster string, e kube.Endpoint, now time.Time) frontEndStatus {
	s := frontEndStatus{Cluster: cluster, Address: e.Address, Host: e.Host}
	if c := e.Certificate; c != nil {
		s.Certificate = &certificateStatus{CName: c.CName, SHA256: c.SHA256, Issuer: c.Issuer, NotAfter: certificate.Date(c.NotAfter), Expires: c.Expires(now)}
	}
	return s
}

// printNames says to what DNS has to lead the names of the clusters' certificates.
func (a *app) printNames(stack *spec.Stack, outputs reconcile.Outputs) {
	for _, c := range stack.Clusters {
		if host := outputs[kube.Address(c.Name, "Service", kube.FrontEnd)][kube.OutputHost]; c.SSL != nil && host != "" {
			fmt.Fprintf(a.out, "  DNS is to lead %s to %s\n", c.SSL.CName, host)
		}
	}
}

// printCertificates says which certificates front ends have, and warns of those that end.
func (a *app) printCertificates(frontEnds []frontEndStatus) {
	for _, f := range frontEnds {
		if c := f.Certificate; c != nil {
			fmt.Fprintf(a.out, "%s: certificate of %s (DNS: %s), SHA-256 %s, expires at %s\n", f.Cluster, c.CName, cmp.Or(f.Host, "none yet"), c.SHA256, c.NotAfter)
			if c.Expires {
				fmt.Fprintf(a.err, "warning: %s: the certificate of %s expires at %s: renew it and apply\n", f.Cluster, c.CName, c.NotAfter)
			}
		}
	}
}
