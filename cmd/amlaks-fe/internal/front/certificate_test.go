package front

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/amlaks/amlaks/reconcile/kube/certificate/certificatetest"
)

const cname = "score.example.com"

// tlsFront is a front end that answers on TLS, and a pool of who issues its certificates.
type tlsFront struct {
	*Server
	url   string
	root  *certificatetest.Issued
	roots *x509.CertPool
}

func serveTLS(t *testing.T, s *Server) *tlsFront {
	t.Helper()
	f := &tlsFront{Server: s, root: certificatetest.Root(t), roots: x509.NewCertPool()}
	f.roots.AddCert(f.root.Cert)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s, TLSConfig: s.TLSConfig(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	done := make(chan error, 1)
	go func() { done <- server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	f.url = "https://" + listener.Addr().String() + "/api/v1/service/churn/score"
	return f
}

// issue makes a certificate, sets it, and gives its serial number.
func (f *tlsFront) issue(t *testing.T) string {
	t.Helper()
	issued := f.root.Issue(t, cname, nil)
	if err := f.SetCertificate(issued.PEM(t)); err != nil {
		t.Fatal(err)
	}
	return issued.Cert.SerialNumber.String()
}

// client verifies as clients do; every connection is one of its own unless kept is true.
func (f *tlsFront) client(t *testing.T, kept bool, change func(*tls.Config)) *http.Client {
	t.Helper()
	config := &tls.Config{RootCAs: f.roots, ServerName: cname}
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: !kept, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

func TestTLSVersionsAndProtocols(t *testing.T) {
	r := startReplica(t, "127.0.0.1", 0, 1, echo)
	s := newFront(t, "127.0.0.1", 0, nil)
	s.SetTable(table(open(r.port)))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	f := serveTLS(t, s)
	if _, err := f.client(t, false, nil).Get(f.url); err == nil || s.HasCertificate() {
		t.Error("it answers without a certificate")
	}
	f.issue(t)
	for _, test := range []struct {
		name     string
		change   func(*tls.Config)
		version  uint16
		protocol string
	}{
		{"1.3 and HTTP/2", nil, tls.VersionTLS13, "h2"},
		{"1.3 and HTTP/1.1", func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, tls.VersionTLS13, "http/1.1"},
		{"1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, tls.VersionTLS12, "h2"},
		{"1.1 is refused", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11 }, 0, ""},
		{"another name", func(c *tls.Config) { c.ServerName = "other.example.com" }, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := f.client(t, false, test.change)
			if test.protocol == "http/1.1" {
				client.Transport.(*http.Transport).ForceAttemptHTTP2 = false
			}
			// More than is read before queueing, so that the rest streams.
			body := strings.Repeat("x", 3*prefixSize)
			resp, err := client.Post(f.url, "text/plain", strings.NewReader(body))
			if test.version == 0 {
				if err == nil {
					t.Fatalf("answered %s", resp.Status)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			if resp.TLS.Version != test.version || resp.TLS.NegotiatedProtocol != test.protocol || !strings.HasSuffix(string(answer), body) {
				t.Errorf("TLS %x, %s, %d bytes", resp.TLS.Version, resp.TLS.NegotiatedProtocol, len(answer))
			}
		})
	}
}

// TestTimeoutOverHTTP2: a request that is given up does not take the connection's others with it.
func TestTimeoutOverHTTP2(t *testing.T) {
	release := make(chan struct{})
	first := make(chan struct{}, 1)
	r := startReplica(t, "127.0.0.1", 0, 2, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "never":
			<-r.Context().Done()
		case "long":
			first <- struct{}{}
			<-release
			_, _ = io.WriteString(w, "scored")
		}
	})
	s := newFront(t, "127.0.0.1", 0, nil)
	slow, fast := open(r.port), open(r.port)
	fast.Name, fast.ScoringTimeoutMs = "fast", 50
	fast.Versions[0].Backend = "fast"
	s.SetTable(table(slow, fast))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	s.SetEndpoints("fast", []string{"127.0.0.1"})
	f := serveTLS(t, s)
	f.issue(t)
	var dialed atomic.Int32
	client := f.client(t, true, nil)
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed.Add(1)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	long := make(chan string, 1)
	go func() { long <- status(client, f.url+"?long") }()
	<-first
	if got := status(client, strings.Replace(f.url, "/churn/", "/fast/", 1)+"?never"); got != "504" {
		t.Errorf("given up: %s", got)
	}
	close(release)
	if got := <-long; got != "200 scored" {
		t.Errorf("the other request of the connection: %s", got)
	}
	if got := status(client, f.url); got != "200" {
		t.Errorf("afterwards: %s", got)
	}
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections, want the one", n)
	}
}

// status asks once and gives the status and the answer to a success, or the error.
func status(client *http.Client, url string) string {
	resp, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	if resp.StatusCode != http.StatusOK {
		answer = nil
	}
	return strings.TrimSpace(fmt.Sprint(resp.StatusCode, " ", string(answer)))
}

// TestCertificateChangesUnderLoad: whoever connects anew is shown the new certificate, and
// no request fails, be its connection old or new, HTTP/1.1 or HTTP/2.
func TestCertificateChangesUnderLoad(t *testing.T) {
	r := startReplica(t, "127.0.0.1", 0, 8, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	})
	s := newFront(t, "127.0.0.1", 0, nil)
	route := open(r.port)
	route.MaxConcurrent = 8
	s.SetTable(table(route))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	f := serveTLS(t, s)
	serials := []string{f.issue(t)}
	var clients sync.WaitGroup
	var scored atomic.Int64
	seen := make([]sync.Map, 2)
	stop := make(chan struct{})
	for i := range 8 {
		client := f.client(t, i%2 == 0, func(c *tls.Config) {
			if i%4 > 1 {
				c.NextProtos = []string{"http/1.1"}
			}
		})
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = i%4 < 2
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				body := bytes.Repeat([]byte{byte(i)}, 2000)
				resp, err := client.Post(f.url, "text/plain", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(answer, body) {
					t.Errorf("%d, %d bytes, %v", resp.StatusCode, len(answer), err)
					return
				}
				seen[i%2].Store(resp.TLS.PeerCertificates[0].SerialNumber.String(), true)
				scored.Add(1)
			}
		})
	}
	for range 20 {
		before := scored.Load()
		eventually(t, "requests go on", func() bool { return scored.Load() > before+20 || t.Failed() })
		serials = append(serials, f.issue(t))
		eventually(t, "the new certificate is seen", func() bool { _, ok := seen[1].Load(serials[len(serials)-1]); return ok || t.Failed() })
	}
	close(stop)
	clients.Wait()
	// Who keeps a connection keeps the certificate that it began with.
	kept := 0
	seen[0].Range(func(serial, _ any) bool {
		kept++
		if !slices.Contains(serials[:1], serial.(string)) {
			t.Errorf("a kept connection was shown %v", serial)
		}
		return true
	})
	if kept != 1 || scored.Load() < 400 {
		t.Errorf("%d certificates on kept connections, %d requests", kept, scored.Load())
	}
}

func TestSessionsEndWithTheirCertificate(t *testing.T) {
	s := newFront(t, "127.0.0.1", 0, nil)
	f := serveTLS(t, s)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(4)
		client := f.client(t, false, func(c *tls.Config) { c.ClientSessionCache, c.MaxVersion = cache, version })
		handshake := func() (resumed bool, serial string) {
			t.Helper()
			resp, err := client.Get(strings.TrimSuffix(f.url, "api/v1/service/churn/score"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			_, _ = io.Copy(io.Discard, resp.Body)
			return resp.TLS.DidResume, resp.TLS.PeerCertificates[0].SerialNumber.String()
		}
		f.issue(t)
		handshake()
		if resumed, _ := handshake(); !resumed {
			t.Errorf("TLS %x: a session is not resumed while the certificate is the same", version)
		}
		serial := f.issue(t)
		if resumed, shown := handshake(); resumed || shown != serial {
			t.Errorf("TLS %x: resumed %v, shown the new certificate %v", version, resumed, shown == serial)
		}
	}
}

func TestUnusableCertificateKeepsTheLast(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := New(Config{Self: "127.0.0.1", Log: slog.New(slog.DiscardHandler), Metrics: registry})
	f := serveTLS(t, s)
	over := f.root.Issue(t, cname, func(c *x509.Certificate, _ *crypto.Signer) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	})
	// With no other, an expired one: clients may choose to go on.
	if err := s.SetCertificate(over.PEM(t)); err != nil {
		t.Errorf("the only certificate: %v", err)
	}
	serial := f.issue(t)
	chain, _ := f.root.Issue(t, cname, nil).PEM(t)
	_, otherKey := over.PEM(t)
	for name, err := range map[string]error{
		"expired": s.SetCertificate(over.PEM(t)), "no key": s.SetCertificate(chain, nil), "another key": s.SetCertificate(chain, otherKey), "empty": s.SetCertificate(nil, nil),
	} {
		if err == nil || strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: %v", name, err)
		}
	}
	resp, err := f.client(t, false, nil).Get(strings.TrimSuffix(f.url, "api/v1/service/churn/score"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.TLS.PeerCertificates[0].SerialNumber.String(); got != serial {
		t.Errorf("shown %s, want %s", got, serial)
	}
	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{"amlaks_fe_certificates_rejected_total 4", fmt.Sprintf(`sha256="%s"} %v`, s.certificates.current.Load().sha256, float64(resp.TLS.PeerCertificates[0].NotAfter.Unix()))} {
		if !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("no %s in\n%s", want, metrics.Body)
		}
	}
}
