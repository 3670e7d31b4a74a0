package traffic

import (
	"strings"
	"testing"
)

func TestMaskBody(t *testing.T) {
	got := string(maskBody([]byte(`{"properties":{"sslConfiguration":{"cert":"S","key":"S","cname":"c"},"servicePrincipalProfile":{"secret":"S"},
		"kubeConfig":"S","list":[{"password":"S","name":"n"}],"pem":"-----BEGIN S","text":"-----BEGIN S","count":3}}`)))
	want := `{"properties":{"count":3,"kubeConfig":"***","list":[{"name":"n","password":"***"}],"pem":"***","servicePrincipalProfile":{"secret":"***"},` +
		`"sslConfiguration":{"cert":"***","cname":"c","key":"***"},"text":"***"}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(maskBody([]byte("not JSON"))); got != "" {
		t.Errorf("kept %q", got)
	}
	if got := string(maskBody([]byte(`"` + strings.Repeat("x", maxLogged) + `"`))); got != `"too large to keep"` {
		t.Errorf("kept %d bytes", len(got))
	}
}

func TestMaskQuery(t *testing.T) {
	got := maskQuery(map[string][]string{"sig": {"S"}, "api-version": {"1"}, "$skipToken": {"2"}})
	if got["sig"][0] != masked || got["api-version"][0] != "1" || got["$skipToken"][0] != "2" {
		t.Errorf("got %v", got)
	}
}

func TestLogIsBounded(t *testing.T) {
	var log Log
	for range maxEntries + 10 {
		log.Add(Entry{Service: ARM})
	}
	if n := len(log.Entries("all")); n > maxEntries {
		t.Errorf("%d entries kept", n)
	}
}
