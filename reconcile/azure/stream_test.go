package azure

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"
)

// TestSizesAreStreamed: azcore keeps whole answers unless it is told not to, and a list of sizes
// may have a hundred megabytes. Not beside other tests: it looks at the heap of all of them.
func TestSizesAreStreamed(t *testing.T) {
	const large, most = 20 << 20, 6 << 20
	var base, peak uint64
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("$filter"); got != "location eq 'westeurope'" {
			t.Errorf("the filter is %q", got)
		}
		fmt.Fprint(w, `{"value": [{"resourceType": "disks"}`)
		for sent, n := 0, 0; sent < large; n++ {
			more, err := fmt.Fprintf(w, `, {"resourceType": "virtualMachines", "name": "Standard_D%d_v9", "family": "f", "locationInfo": [{"location": "westeurope"}], "capabilities": [{"name": "vCPUs", "value": "4"}], "padding": "%2000d"}`, n, n)
			if err != nil {
				t.Error(err)
				return
			}
			if sent += more; n%1000 == 999 {
				if now := heap(); now > base {
					peak = max(peak, now-base)
				}
			}
		}
		fmt.Fprint(w, `]}`)
	}))
	defer server.Close()
	connection, err := Connect(func(name string) string {
		return map[string]string{EndpointVariable: server.URL, TokenVariable: "x"}[name]
	}, "test", true, Identity{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClient(connection)
	if err != nil {
		t.Fatal(err)
	}
	all := &offers{driver: &Driver{arm: c}, seen: map[region]offer{}}
	base = heap()
	found := all.of(t.Context(), region{"sub", "westeurope"})
	if found.err != nil || len(found.sizes) < 9000 {
		t.Fatalf("%d sizes: %v", len(found.sizes), found.err)
	}
	if _, ok := found.find("standard_d7_V9"); !ok {
		t.Error("a size is not found by its name")
	}
	if peak > most {
		t.Errorf("%d KiB were in use for %d KiB of list", peak>>10, large>>10)
	}
}
