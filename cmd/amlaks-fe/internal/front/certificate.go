package front

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificates is what the front end shows to its clients. It is replaced at once, for the
// handshakes to come: connections that are open go on, and so do their requests.
type certificates struct {
	current  atomic.Pointer[certificate]
	rejected prometheus.Counter
}

type certificate struct {
	tls.Certificate
	sha256 string
}

// SetCertificate replaces the certificate: its chain, the leaf first, and its key, both PEM.
// One that cannot be used leaves the last one in its place; the error says why, and never
// quotes the key.
func (s *Server) SetCertificate(chain, key []byte) error {
	pair, err := tls.X509KeyPair(chain, key)
	// An expired one is better than none, which nobody could even choose to accept.
	if err == nil && expired(pair) && s.HasCertificate() && !expired(s.certificates.current.Load().Certificate) {
		err = fmt.Errorf("it expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if err != nil {
		s.certificates.rejected.Inc()
		return err
	}
	sum := sha256.Sum256(pair.Leaf.Raw)
	next := &certificate{Certificate: pair, sha256: hex.EncodeToString(sum[:])}
	last := s.certificates.current.Swap(next)
	if last == nil || last.sha256 != next.sha256 {
		s.config.Log.Info("certificate", "sha256", next.sha256, "notAfter", pair.Leaf.NotAfter.UTC().Format(time.RFC3339), "names", pair.Leaf.DNSNames)
	}
	return nil
}

func expired(pair tls.Certificate) bool { return time.Now().After(pair.Leaf.NotAfter) }

// HasCertificate tells whether TLS can be spoken.
func (s *Server) HasCertificate() bool { return s.certificates.current.Load() != nil }

// resumable marks a session's ticket with the certificate that it began with.
const resumable = "amlaks-certificate:"

// TLSConfig is TLS 1.2 and 1.3 with the certificate last set, HTTP/2 and HTTP/1.1. A session
// that began with another certificate is not resumed: who comes back is shown the new one.
func (s *Server) TLSConfig() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		current := s.certificates.current.Load()
		if current == nil {
			return nil, errors.New("no certificate yet")
		}
		return &current.Certificate, nil
	}
	// The tickets' keys are config's own, which rotates them by itself.
	config.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		if current := s.certificates.current.Load(); current != nil {
			session.Extra = append(session.Extra, []byte(resumable+current.sha256))
		}
		return config.EncryptTicket(state, session)
	}
	config.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := config.DecryptTicket(ticket, state)
		current := s.certificates.current.Load()
		if err != nil || session == nil || current == nil {
			return nil, err
		}
		for _, extra := range session.Extra {
			if bytes.Equal(extra, []byte(resumable+current.sha256)) {
				return session, nil
			}
		}
		return nil, nil
	}
	return config
}

var notAfterDesc = prometheus.NewDesc("amlaks_fe_certificate_not_after_seconds", "When the certificate in use ends, in seconds since 1970.", []string{"sha256"}, nil)

// certificateGauge is read when it is scraped.
type certificateGauge struct{ certificates *certificates }

func (g certificateGauge) Describe(c chan<- *prometheus.Desc) { c <- notAfterDesc }

func (g certificateGauge) Collect(c chan<- prometheus.Metric) {
	if current := g.certificates.current.Load(); current != nil {
		c <- prometheus.MustNewConstMetric(notAfterDesc, prometheus.GaugeValue, float64(current.Leaf.NotAfter.Unix()), current.sha256)
	}
}

// newCertificates registers the metrics of one.
func newCertificates(r prometheus.Registerer) *certificates {
	c := &certificates{rejected: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "amlaks_fe_certificates_rejected_total", Help: "Certificates that could not be used, so that the one before them stayed."})}
	r.MustRegister(c.rejected, certificateGauge{c})
	return c
}
