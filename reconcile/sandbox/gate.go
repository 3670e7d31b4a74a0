package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
	"github.com/amlaks/amlaks/reconcile/sandbox/internal/traffic"
)

// gateLife is longer than any sandbox lives: nothing renews the gate's certificate.
const gateLife = 10 * 365 * 24 * time.Hour

// gate is the door to the API servers of all AKS clusters, each below a path of its own. The
// kubeconfigs that ARM hands out lead to it, so that requests are seen and can be made to
// fail. It speaks HTTP/1.1 alone: a connection then carries one request at a time, and can
// be reset with it.
type gate struct {
	address     string // host:port
	token       string
	certificate []byte // PEM; it is its own authority
	pair        tls.Certificate

	mu      sync.Mutex
	proxies map[string]proxy // by the kubeconfig behind
}

type proxy struct {
	handler http.Handler
	err     error
}

// newGate reads the certificate in a file, or makes one and keeps it there.
func newGate(file, address, token string) (*gate, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if content, err = gateCertificate(); err == nil {
			err = files.Write(file, content, 0o600)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the certificate of the clusters' gate: %w", err)
	}
	pair, err := tls.X509KeyPair(content, content)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return &gate{
		address: address, token: token, pair: pair, proxies: map[string]proxy{},
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
	}, nil
}

// gateCertificate makes a key and a certificate for this machine's loopback.
func gateCertificate() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "amlaks sandbox"},
		NotBefore: time.Now().Add(-time.Hour), // clocks of a machine may step back
		NotAfter:  time.Now().Add(gateLife),
		IsCA:      true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})...), nil
}

// listen puts the gate's TLS in front of a listener.
func (g *gate) listen(listener net.Listener) net.Listener {
	return tls.NewListener(listener, &tls.Config{
		Certificates: []tls.Certificate{g.pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
}

// kubeconfig leads to a cluster (its name and its path) through the gate.
func (g *gate) kubeconfig(name, path string) ([]byte, error) {
	user := "clusterAdmin_" + path
	return clientcmd.Write(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: (&url.URL{Scheme: "https", Host: g.address, Path: "/" + path}).String(), CertificateAuthorityData: g.certificate,
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{user: {Token: g.token}},
		Contexts:       map[string]*clientcmdapi.Context{name + "-admin": {Cluster: name, AuthInfo: user}},
		CurrentContext: name + "-admin",
	})
}

// handler passes requests on to the cluster that find gives for the first element of their
// path: its own administrator's kubeconfig, or false.
func (g *gate) handler(find func(path string) ([]byte, bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !bearer || subtle.ConstantTimeCompare([]byte(token), []byte(g.token)) != 1 {
			refuseKube(w, http.StatusUnauthorized, string(metav1.StatusReasonUnauthorized), "Unauthorized")
			return
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		kubeconfig, ok := find(path)
		if !ok {
			traffic.Reset(w) // nothing listens where there is no cluster
			return
		}
		to, err := g.proxy(kubeconfig)
		if err != nil {
			refuseKube(w, http.StatusInternalServerError, string(metav1.StatusReasonInternalError), "the cluster's kubeconfig cannot be used")
			return
		}
		http.StripPrefix("/"+path, to).ServeHTTP(w, r)
	})
}

// proxy speaks to the API server of a kubeconfig as its user.
func (g *gate) proxy(kubeconfig []byte) (http.Handler, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if known, ok := g.proxies[string(kubeconfig)]; ok {
		return known.handler, known.err
	}
	handler, err := newProxy(kubeconfig)
	g.proxies[string(kubeconfig)] = proxy{handler, err}
	return handler, err
}

func newProxy(kubeconfig []byte) (http.Handler, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"http/1.1"} // what upgrades, to SPDY or WebSocket, cannot do on 2
	transport, err := rest.TransportFor(config)
	if err != nil {
		return nil, err
	}
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0), // the request log has it
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Header.Del("Authorization") // the gate's own
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { traffic.Reset(w) },
	}, nil
}

// refuseKube writes an error as an API server does.
func refuseKube(w http.ResponseWriter, status int, code, message string) {
	refused := metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(status), Reason: metav1.StatusReason(code), Message: message,
	}
	if seconds, err := strconv.ParseInt(w.Header().Get("Retry-After"), 10, 32); err == nil {
		refused.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(seconds)}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(refused) // the client has gone away
}
