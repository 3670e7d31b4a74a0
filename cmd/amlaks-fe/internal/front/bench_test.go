package front

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// BenchmarkLatency is one client's 1 KiB request: straight to the model, through
// httputil.ReverseProxy alone, and through the front end.
func BenchmarkLatency(b *testing.B) {
	model := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"prediction":[0.5]}`)
	}))
	defer model.Close()
	target, err := url.Parse(model.URL)
	if err != nil {
		b.Fatal(err)
	}
	peer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	defer peer.Close()
	s := newFront(b, "127.0.0.1", 0, nil)
	route := open(model.Listener.Addr().(*net.TCPAddr).Port)
	s.SetTable(table(route))
	s.SetEndpoints("churn", []string{"127.0.0.1"})
	ours := httptest.NewServer(s)
	defer ours.Close()
	payload := strings.Repeat("x", 1024)
	for name, address := range map[string]string{"direct": model.URL, "ReverseProxy": peer.URL, "amlaks-fe": ours.URL} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				resp, err := http.Post(address+"/api/v1/service/churn/score", "application/json", strings.NewReader(payload))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
