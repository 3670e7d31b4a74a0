package kube

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/certificate/certificatetest"
	"github.com/amlaks/amlaks/spec"
)

const cname = "score.example.com"

const secretAddress = "kube/dev/Secret/" + TLSSecret

// tlsStack has TLS from two files, and no service.
type tlsStack struct {
	*spec.Stack
	kubeconfig string
	cert, key  string
	vault      func(context.Context, string) (string, string, error)
	now        time.Time
}

func newTLSStack(t *testing.T, kubeconfig, name string) *tlsStack {
	t.Helper()
	dir := t.TempDir()
	s := &tlsStack{Stack: stackOf(), kubeconfig: kubeconfig, cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), now: time.Now()}
	s.Name = name
	s.Clusters[0].FrontEnd.Port = 443
	s.Clusters[0].SSL = &spec.SSL{CName: cname, Certificate: spec.Certificate{Files: &spec.CertificateFiles{Cert: s.cert, Key: s.key}}}
	return s
}

func (s *tlsStack) write(t *testing.T, chain, key []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(s.cert, chain, 0o600), os.WriteFile(s.key, key, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func (s *tlsStack) put(t *testing.T, issued *certificatetest.Issued) {
	t.Helper()
	chain, key := issued.PEM(t)
	s.write(t, chain, key)
}

// issue gives a place the two certificates that its file may refer to.
func (p *place) issue(t *testing.T) {
	t.Helper()
	p.certificate, p.changed = newTLSStack(t, p.kubeconfig, p.ours), newTLSStack(t, p.kubeconfig, p.ours)
	p.certificate.put(t, certificatetest.SelfSigned(t, cname))
	p.changed.put(t, certificatetest.Root(t).Issue(t, cname, func(c *x509.Certificate, _ *crypto.Signer) { c.NotAfter = c.NotAfter.Add(time.Hour) }))
}

// secrets are the key as its file has it, and as Kubernetes does.
func (s *tlsStack) secrets(t *testing.T) []string {
	t.Helper()
	key, err := os.ReadFile(s.key)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	return []string{lines[1], base64.StdEncoding.EncodeToString(key)}
}

func (s *tlsStack) run(t *testing.T) *run {
	t.Helper()
	r := start(t, s.kubeconfig, s.Stack, false)
	r.driver.wiring.Vault = s.vault
	r.driver.wiring.Now = func() time.Time { return s.now }
	return r
}

func (s *tlsStack) plan(t *testing.T) *reconcile.Plan {
	t.Helper()
	p := s.run(t).plan(t, reconcile.Options{})
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := os.ReadFile(s.key); err == nil && len(key) > 40 && strings.Contains(string(text), strings.TrimSpace(strings.Split(string(key), "\n")[1])) || strings.Contains(string(text), "PRIVATE") {
		t.Errorf("the plan holds the key: %s", text)
	}
	return p
}

func change(p *reconcile.Plan, address reconcile.Address) reconcile.Change {
	for _, c := range p.Changes {
		if c.Address == address {
			return c
		}
	}
	return reconcile.Change{}
}

// certificates takes a stack through the life of its certificate.
func certificates(t *testing.T, kubeconfig string) {
	admin, err := newClient(kubeconfig, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := newTLSStack(t, kubeconfig, "tls")
	root := certificatetest.Root(t)
	first := root.Intermediate(t).Issue(t, cname, nil)
	chain, key := first.PEM(t)
	s.write(t, chain, key)
	opened, err := Open(kubeconfig, s.Name, true)
	if err != nil {
		t.Fatal(err)
	}
	succeeded(t, s.run(t).apply(t, reconcile.Options{}))
	p := s.plan(t)
	if got := pending(p); got != nil {
		t.Errorf("a second plan would %v", got)
	}
	// The port of https is opened when those behind it listen, and they start with a certificate.
	for dependent, on := range map[reconcile.Address]reconcile.Address{"kube/dev/Service/amlaks-fe": "kube/dev/Deployment/amlaks-fe", "kube/dev/Deployment/amlaks-fe": secretAddress} {
		if !slices.Contains(change(p, dependent).DependsOn, on) {
			t.Errorf("%s does not come after %s", dependent, on)
		}
	}
	held := func() map[string][]byte {
		t.Helper()
		secret, err := admin.typed.CoreV1().Secrets("amlaks-tls").Get(t.Context(), TLSSecret, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return secret.Data
	}
	if diff := cmp.Diff(map[string][]byte{"tls.crt": chain, "tls.key": key}, held()); diff != "" {
		t.Error(diff)
	}
	endpoint, err := opened.Endpoint(t.Context())
	if err != nil || endpoint.Certificate == nil || endpoint.Certificate.CName != cname || !endpoint.Certificate.NotAfter.Equal(first.Cert.NotAfter) || len(endpoint.Certificate.Chain) != 2 {
		t.Errorf("endpoint %+v, %v", endpoint, err)
	}
	fingerprint := endpoint.Certificate.SHA256
	notAfter := first.Cert.NotAfter.UTC().Format(time.RFC3339)
	info := []reconcile.Note{{
		Address: secretAddress, Level: reconcile.Info, Reason: reconcile.ReasonExpires,
		Message: "the certificate of score.example.com, SHA-256 " + fingerprint[:16] + "…, expires at " + notAfter,
		Data:    map[string]any{"cname": cname, "sha256": fingerprint, "notAfter": notAfter},
	}}
	if diff := cmp.Diff(info, p.Notes); diff != "" {
		t.Error(diff)
	}

	t.Run("warned about 30 days ahead", func(t *testing.T) {
		defer func() { s.now = time.Now() }()
		for _, test := range []struct {
			before time.Duration
			level  reconcile.Level
		}{{ExpiryWarning + time.Minute, reconcile.Info}, {ExpiryWarning - time.Minute, reconcile.Warning}, {time.Minute, reconcile.Warning}} {
			s.now = first.Cert.NotAfter.Add(-test.before)
			p := s.plan(t)
			if len(p.Notes) != 1 || p.Notes[0].Level != test.level || (p.Notes[0].Hint != "") != (test.level == reconcile.Warning) || pending(p) != nil {
				t.Errorf("%s before: %+v, %v", test.before, p.Notes, pending(p))
			}
		}
	})

	t.Run("the same one, written otherwise", func(t *testing.T) {
		s.write(t, slices.Concat([]byte("subject=score\n"), chain), slices.Concat([]byte("Bag Attributes\n"), key, chain))
		if got := pending(s.plan(t)); got != nil {
			t.Errorf("%v", got)
		}
	})

	t.Run("another one", func(t *testing.T) {
		deployment := func() int64 {
			t.Helper()
			d, err := admin.typed.AppsV1().Deployments("amlaks-tls").Get(t.Context(), FrontEnd, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return d.Generation
		}
		before := deployment()
		second := root.Issue(t, "*.example.com", func(c *x509.Certificate, _ *crypto.Signer) { c.NotAfter = c.NotAfter.Add(time.Hour) })
		s.put(t, second)
		p := s.plan(t)
		if diff := cmp.Diff([]string{"update " + secretAddress}, pending(p)); diff != "" {
			t.Fatal(diff)
		}
		paths := map[string]any{}
		for _, d := range change(p, secretAddress).Diff {
			paths[d.Path] = d.Before
		}
		if diff := cmp.Diff(map[string]any{
			`data["tls.crt"]`: "(sensitive)", `data["tls.key"]`: "(sensitive)",
			`metadata.annotations["amlaks.io/certificate-sha256"]`: fingerprint, `metadata.annotations["amlaks.io/certificate-not-after"]`: notAfter,
		}, paths); diff != "" {
			t.Error(diff)
		}
		succeeded(t, s.run(t).apply(t, reconcile.Options{}))
		if wantChain, wantKey := second.PEM(t); cmp.Diff(map[string][]byte{"tls.crt": wantChain, "tls.key": wantKey}, held()) != "" {
			t.Error("the Secret holds another one")
		}
		if deployment() != before {
			t.Error("the Deployment of the front end was touched")
		}
		if got := pending(s.plan(t)); got != nil {
			t.Errorf("then %v", got)
		}
	})

	t.Run("one that clients refuse", func(t *testing.T) {
		before := held()
		over := root.Issue(t, "other.example.com", func(c *x509.Certificate, _ *crypto.Signer) {
			c.NotBefore, c.NotAfter = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)
		})
		s.put(t, over)
		s.Clusters[0].FrontEnd.DNSLabel = "amlaks-test" // of a public address; here it only makes a change
		defer func() { s.Clusters[0].FrontEnd.DNSLabel = "" }()
		p := s.plan(t)
		if diff := cmp.Diff([]string{"refuse " + secretAddress, "update kube/dev/Service/amlaks-fe"}, pending(p)); diff != "" {
			t.Fatal(diff)
		}
		c := change(p, secretAddress)
		if want := "clusters[0].ssl.certificate: it is not for score.example.com: it is for other.example.com; it expired at 2026-02-01T00:00:00Z; renew it, put it in place of the files, and apply"; c.Why != want || c.Reason != reconcile.ReasonExpires {
			t.Errorf("%s: %s", c.Reason, c.Why)
		}
		s.run(t).apply(t, reconcile.Options{})
		if cmp.Diff(before, held()) != "" {
			t.Error("what was refused was written")
		}
		if err := os.Remove(s.key); err != nil {
			t.Fatal(err)
		}
		c = change(s.plan(t), secretAddress)
		if c.Action != reconcile.Refuse || c.Reason != reconcile.ReasonNotFound || !strings.Contains(c.Why, "key.pem: no such file or directory; plan and apply read it where they run") {
			t.Errorf("%s %s: %s", c.Action, c.Reason, c.Why)
		}
		// What is to go needs no certificate.
		if got := pending(s.run(t).plan(t, reconcile.Options{Destroy: true})); len(got) != 1 {
			t.Errorf("destroy would %v", got)
		}
	})

	t.Run("from Key Vault", func(t *testing.T) {
		third := root.Intermediate(t).Issue(t, cname, nil)
		chain, key := third.PEM(t)
		var asked []string
		s.vault = func(_ context.Context, uri string) (string, string, error) {
			asked = append(asked, uri)
			return string(key) + string(chain), "application/x-pem-file", nil
		}
		const uri = "https://ml-prod.vault.azure.net/certificates/score"
		s.Clusters[0].SSL.Certificate = spec.Certificate{KeyVault: uri}
		succeeded(t, s.run(t).apply(t, reconcile.Options{}))
		if cmp.Diff(map[string][]byte{"tls.crt": chain, "tls.key": key}, held()) != "" || cmp.Diff([]string{uri}, asked) != "" {
			t.Errorf("the Secret holds another one; asked %v", asked)
		}
		s.vault = func(context.Context, string) (string, string, error) {
			return "", "", &reconcile.Failure{Reason: reconcile.ReasonForbidden, Err: errors.New("HTTP 403"), Hint: "a role is missing"}
		}
		c := change(s.plan(t), secretAddress)
		if c.Action != reconcile.Refuse || c.Reason != reconcile.ReasonForbidden || c.Why != "clusters[0].ssl.certificate: HTTP 403; a role is missing" {
			t.Errorf("%s %s: %s", c.Action, c.Reason, c.Why)
		}
	})

	t.Run("back to http", func(t *testing.T) {
		s.Clusters[0].SSL, s.Clusters[0].FrontEnd.Port = nil, 80
		succeeded(t, s.run(t).apply(t, reconcile.Options{Prune: true}))
		if got := pending(s.run(t).plan(t, reconcile.Options{Prune: true})); got != nil {
			t.Errorf("then %v", got)
		}
		if endpoint, err := opened.Endpoint(t.Context()); err != nil || endpoint.Certificate != nil {
			t.Errorf("endpoint %+v, %v", endpoint, err)
		}
	})

	t.Run("refused before it was ever there", func(t *testing.T) {
		s := newTLSStack(t, kubeconfig, "tls-refused")
		c := change(s.plan(t), secretAddress)
		if c.Action != reconcile.Refuse || c.Reason != reconcile.ReasonNotFound {
			t.Errorf("%s %s: %s", c.Action, c.Reason, c.Why)
		}
	})
	succeeded(t, s.run(t).apply(t, reconcile.Options{Destroy: true}))
}

// vaultSecrets takes a service's secrets from Key Vault, beside one from the environment.
func vaultSecrets(t *testing.T, kubeconfig string) {
	admin, err := newClient(kubeconfig, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	const uri = "https://ml-prod.vault.azure.net/secrets/db"
	stack := stackOf("churn", "other")
	stack.Name = "vault"
	for i := range stack.Services {
		stack.Services[i].Inference.Secrets = map[string]spec.SecretRef{"DB": {KeyVault: uri}, "PASSWORD": {Env: "PASSWORD"}}
	}
	stack.Services[1].Inference.Secrets = map[string]spec.SecretRef{"DB": {KeyVault: uri}}
	var answer string
	var failure error
	asked := 0
	open := func() *run {
		r := startWith(t, kubeconfig, stack, false, func(string) string { return hidden })
		r.driver.wiring.Vault = func(context.Context, string) (string, string, error) { asked++; return answer, "", failure }
		return r
	}
	answer = "from the vault"
	succeeded(t, open().apply(t, reconcile.Options{}))
	if asked != 1 {
		t.Errorf("the vault was asked %d times for one secret", asked)
	}
	secrets := admin.typed.CoreV1().Secrets("amlaks-vault")
	for name, want := range map[string]map[string][]byte{"churn-env": {"DB": []byte(answer), "PASSWORD": []byte(hidden)}, "other-env": {"DB": []byte(answer)}} {
		secret, err := secrets.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, secret.Data); diff != "" {
			t.Error(diff)
		}
	}
	if got := pending(open().plan(t, reconcile.Options{})); got != nil {
		t.Errorf("then %v", got)
	}
	answer = "changed in the vault"
	p := open().plan(t, reconcile.Options{})
	if diff := cmp.Diff([]string{"update kube/dev/Secret/churn-env", "update kube/dev/Secret/other-env"}, pending(p)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]reconcile.FieldDiff{{Path: "data.DB", Before: "(sensitive)", After: "(sensitive)"}}, change(p, "kube/dev/Secret/churn-env").Diff); diff != "" {
		t.Error(diff)
	}
	answer = ""
	c := change(open().plan(t, reconcile.Options{}), "kube/dev/Secret/other-env")
	if c.Action != reconcile.Refuse || !strings.Contains(c.Why, "inference.secrets.DB: "+uri+" is empty") {
		t.Errorf("%s: %s", c.Action, c.Why)
	}
	succeeded(t, open().apply(t, reconcile.Options{Destroy: true}))
}
