package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/kube/certificate"
	"github.com/amlaks/amlaks/reconcile/kube/certificate/certificatetest"
)

// scriptT is a script as certificatetest knows tests.
type scriptT struct{ *testscript.TestScript }

func (scriptT) Helper()          {}
func (t scriptT) Fatal(v ...any) { t.Fatalf("%s", fmt.Sprint(v...)) }

// certificateCommand writes NAME.crt and NAME.key, self-signed for a host and some days:
//
//	certificate score score.example.com 90
func certificateCommand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: certificate NAME HOST DAYS")
	}
	days, err := strconv.Atoi(args[2])
	ts.Check(err)
	issued := certificatetest.Root(scriptT{ts}).Issue(scriptT{ts}, args[1], func(c *x509.Certificate, _ *crypto.Signer) {
		c.NotAfter = time.Now().AddDate(0, 0, days)
		c.NotBefore = c.NotAfter.AddDate(-1, 0, 0)
	})
	chain, key := issued.PEM(scriptT{ts})
	ts.Check(errors.Join(os.WriteFile(ts.MkAbs(args[0]+".crt"), chain, 0o600), os.WriteFile(ts.MkAbs(args[0]+".key"), key, 0o600)))
}

// scoringLoad are clients that score without a pause.
type scoringLoad struct {
	uri, dial, key string
	body           []byte

	mu     sync.Mutex
	failed []string
	seen   map[string]int // fingerprints shown to new connections
	scored atomic.Int64
}

// underload scores a service from many clients while a command runs, and until new
// connections are shown another certificate than before. No request may fail:
//
//	underload wine amlaks apply --yes
func underload(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: underload SERVICE COMMAND...")
	}
	l := &scoringLoad{body: []byte(ts.ReadFile("request.json")), seen: map[string]int{}}
	ts.Check(ts.Exec("amlaks", "status", "-o", "json"))
	var status struct {
		Services  []struct{ Service, ScoringURI string }
		FrontEnds []struct{ Host string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &status))
	for _, s := range status.Services {
		if s.Service == args[0] {
			l.uri = s.ScoringURI
		}
	}
	ts.Check(ts.Exec("amlaks", "keys", "get", args[0], "-o", "json"))
	var keys kube.Keys
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &keys))
	l.key = keys.Primary
	u, err := url.Parse(l.uri)
	ts.Check(err)
	l.dial = net.JoinHostPort(status.FrontEnds[0].Host, u.Port())
	ctx, cancel := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { l.score(ctx, i%2 == 0, i%3 > 0) })
	}
	stop := func() {
		cancel()
		clients.Wait()
	}
	defer stop()
	l.await(ts, "requests before", func() bool { return l.scored.Load() >= 50 })
	before := l.shown()
	ts.Check(ts.Exec(args[1], args[2:]...))
	l.await(ts, "the new certificate on new connections", func() bool { return l.shown() > before })
	after := l.scored.Load()
	l.await(ts, "requests afterwards", func() bool { return l.scored.Load() >= after+50 })
	stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	ts.Logf("%d requests, certificates of new connections: %v", l.scored.Load(), l.seen)
	if len(l.failed) > 0 {
		ts.Fatalf("%d requests failed: %s", len(l.failed), strings.Join(l.failed[:min(5, len(l.failed))], "\n"))
	}
	if before != 1 || len(l.seen) != 2 {
		ts.Fatalf("new connections were shown %v, and %d before; want one and then another", l.seen, before)
	}
}

func (l *scoringLoad) await(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.After(time.Minute)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			ts.Fatalf("not within a minute: %s; %d scored, failed: %v", what, l.scored.Load(), l.failed)
		case <-ticker.C:
		}
	}
}

// shown is how many certificates new connections have been shown.
func (l *scoringLoad) shown() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// score goes on until ctx ends, on one connection or on one for each request.
func (l *scoringLoad) score(ctx context.Context, kept, http2 bool) {
	config := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(state tls.ConnectionState) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.seen[certificate.Fingerprint(state.PeerCertificates[0])]++
		return nil
	}}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: !kept, ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, l.dial)
		}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: time.Minute}
	for ctx.Err() == nil {
		// Not ctx's: what runs when the test ends runs to its end.
		request, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, l.uri, bytes.NewReader(l.body))
		if err == nil {
			request.Header.Set("Authorization", "Bearer "+l.key)
			err = l.once(client, request)
		}
		if err != nil {
			l.mu.Lock()
			l.failed = append(l.failed, err.Error())
			l.mu.Unlock()
			return
		}
		l.scored.Add(1)
	}
}

func (l *scoringLoad) once(client *http.Client, request *http.Request) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, answer)
	}
	return err
}

// TestTrust: which certificates of a front end score takes.
func TestTrust(t *testing.T) {
	const cname = "score.example.com"
	now := time.Now()
	declared, other := certificatetest.SelfSigned(t, cname), certificatetest.SelfSigned(t, cname)
	pinned := &kube.Certificate{CName: cname, SHA256: certificate.Fingerprint(declared.Cert)}
	for name, test := range map[string]struct {
		shown   []*x509.Certificate
		now     time.Time
		words   string
		mayPass bool // another try may see another one
	}{
		"the declared one": {[]*x509.Certificate{declared.Cert}, now, "", false},
		"another one":      {[]*x509.Certificate{other.Cert}, now, "which the stack gave it", true},
		"none":             {nil, now, "it shows no certificate", true},
		"an expired one":   {[]*x509.Certificate{declared.Cert}, declared.Cert.NotAfter.Add(time.Second), "its certificate expired at", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := trust(pinned, tls.ConnectionState{PeerCertificates: test.shown}, test.now)
			if (err == nil) != (test.words == "") || err != nil && !strings.Contains(err.Error(), test.words) {
				t.Errorf("%v, want %q", err, test.words)
			}
			if untrusted := (untrustedError{}); errors.As(err, &untrusted) != test.mayPass {
				t.Errorf("may pass: want %v", test.mayPass)
			}
		})
	}
}
