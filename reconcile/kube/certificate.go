package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/certificate"
	"github.com/amlaks/amlaks/spec"
)

// TLSSecret holds the certificate of a stack's front end in a cluster, as kubernetes.io/tls.
// The front end watches it: a change needs no restart.
const TLSSecret = FrontEnd + "-tls"

// What the Secret and the front end's Service say of the certificate, for everybody to read.
const (
	annotationCName    = "amlaks.io/cname"
	annotationSHA256   = "amlaks.io/certificate-sha256"
	annotationNotAfter = "amlaks.io/certificate-not-after" // RFC 3339
)

// Outputs of a certificate: what its Secret holds.
const (
	outputChain    = "chain" // base64
	outputKey      = "key"   // base64
	outputSHA256   = "sha256"
	outputNotAfter = "notAfter"
)

// ExpiryWarning is how long before its end a certificate is warned about: public ones are
// renewed from then on (30 of 90 days, Let's Encrypt's advice).
const ExpiryWarning = 30 * 24 * time.Hour

// tlsSecret renders the certificate's Secret.
func (r *renderer) tlsSecret(labels map[string]string) {
	ssl := r.cluster.SSL
	ref := &reference{field: r.at + ".ssl.certificate", uri: ssl.Certificate.KeyVault, ssl: ssl, subject: r.here(kindSecret, TLSSecret)}
	address := r.refer(reconcile.Address("certificate/"+r.cluster.Name), ref)
	r.add(object{kind: kindSecret, namespace: r.namespace, name: TLSSecret, values: true, frontEnd: true},
		core.Secret(TLSSecret, r.namespace).WithLabels(labels).WithType(corev1.SecretTypeTLS).WithAnnotations(map[string]string{annotationCName: ssl.CName}),
		"certificate of "+ssl.CName)
	output := func(name string) reconcile.Ref { return reconcile.Ref{Address: address, Output: name} }
	r.place(
		placed{[]string{"data", corev1.TLSCertKey}, output(outputChain)},
		placed{[]string{"data", corev1.TLSPrivateKeyKey}, output(outputKey)},
		placed{[]string{"metadata", "annotations", annotationSHA256}, output(outputSHA256)},
		placed{[]string{"metadata", "annotations", annotationNotAfter}, output(outputNotAfter)},
	)
	if r.err == nil {
		r.resources[len(r.resources)-1].Compare = map[string]reconcile.Comparator{
			`data["` + corev1.TLSCertKey + `"]`: reconcile.Sensitive, `data["` + corev1.TLSPrivateKeyKey + `"]`: reconcile.Sensitive,
		}
	}
}

// readCertificate reads a certificate, refuses one that clients would not accept, and says
// when it ends.
func (d *Driver) readCertificate(ctx context.Context, ref *reference) (map[string]string, []reconcile.Note, error) {
	cert, err := d.loadCertificate(ctx, ref.ssl.Certificate)
	if err == nil {
		err = cert.Check(ref.ssl.CName, d.now())
	}
	if err != nil {
		return nil, nil, unusable(err, ref)
	}
	sha256, notAfter := cert.SHA256(), certificate.Date(cert.Leaf.NotAfter)
	note := reconcile.Note{
		Address: ref.subject, Level: reconcile.Info, Reason: reconcile.ReasonExpires,
		Message: fmt.Sprintf("the certificate of %s, SHA-256 %s…, expires at %s", ref.ssl.CName, sha256[:16], notAfter),
		Data:    map[string]any{"cname": ref.ssl.CName, "sha256": sha256, "notAfter": notAfter},
	}
	if d.now().Add(ExpiryWarning).After(cert.Leaf.NotAfter) {
		note.Level, note.Hint = reconcile.Warning, renewHint(ref.ssl.Certificate)
	}
	return map[string]string{
		outputChain: base64.StdEncoding.EncodeToString(cert.Chain), outputKey: base64.StdEncoding.EncodeToString(cert.Key),
		outputSHA256: sha256, outputNotAfter: notAfter,
	}, []reconcile.Note{note}, nil
}

func renewHint(c spec.Certificate) string {
	if c.KeyVault != "" {
		return "renew it in Key Vault; the next apply takes its newest version"
	}
	return "renew it, put it in place of the files, and apply"
}

func (d *Driver) loadCertificate(ctx context.Context, c spec.Certificate) (*certificate.Certificate, error) {
	if c.KeyVault != "" {
		value, contentType, err := d.readVault(ctx, c.KeyVault)
		if err != nil {
			return nil, err
		}
		return certificate.FromVault(value, contentType)
	}
	chain, err := d.readFile(c.Files.Cert)
	key, keyErr := d.readFile(c.Files.Key)
	if err := errors.Join(err, keyErr); err != nil {
		return nil, err
	}
	return certificate.FromPEM(chain, key)
}

// unusable says what to do about a certificate that was read and must not be used.
func unusable(err error, ref *reference) error {
	if reconcile.ReasonOf(err) != "" {
		return err // it was not even read
	}
	failure := &reconcile.Failure{Reason: reconcile.ReasonCertificate, Err: oneLine(err), Hint: "the chain goes from the host's own certificate to its issuers, with the key that belongs to it"}
	if over := (certificate.Expired{}); errors.As(err, &over) {
		failure.Reason, failure.Hint = reconcile.ReasonExpires, renewHint(ref.ssl.Certificate)
	}
	return failure
}

// oneLine writes several errors behind each other.
func oneLine(err error) error {
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var all error
	for _, one := range several.Unwrap() {
		if all == nil {
			all = one
			continue
		}
		all = fmt.Errorf("%w; %w", all, one)
	}
	return all
}

func (d *Driver) now() time.Time {
	if d.wiring.Now != nil {
		return d.wiring.Now()
	}
	return time.Now()
}
