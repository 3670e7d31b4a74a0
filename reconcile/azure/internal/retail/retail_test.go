package retail

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile/azure/internal/cache"
)

// row is a price as the list has it, with changes.
func row(change ...string) map[string]any {
	r := map[string]any{
		"currencyCode": "USD", "tierMinimumUnits": 0.0, "retailPrice": 0.24, "unitPrice": 0.24, "armRegionName": "westeurope", "location": "EU West",
		"effectiveStartDate": "2024-01-01T00:00:00Z", "meterId": "m", "meterName": "D4ds v5", "productId": "p", "skuId": "s",
		"productName": "Virtual Machines Ddsv5 Series", "skuName": "D4ds v5", "serviceName": "Virtual Machines", "serviceId": "v",
		"serviceFamily": "Compute", "unitOfMeasure": "1 Hour", "type": "Consumption", "isPrimaryMeterRegion": true, "armSkuName": "Standard_D4ds_v5",
	}
	for _, c := range change {
		key, text, _ := strings.Cut(c, "=")
		var value any = text
		if json.Unmarshal([]byte(text), &value) != nil {
			value = text
		}
		r[key] = value
	}
	return r
}

func TestWhatIsPicked(t *testing.T) {
	windows, spot, low := row("productName=Virtual Machines Ddsv5 Series Windows", "retailPrice=0.4"),
		row("skuName=D4ds v5 Spot", "meterName=D4ds v5 Spot", "retailPrice=0.05"), row("meterName=D4ds v5 Low Priority", "retailPrice=0.06")
	for _, test := range []struct {
		name string
		rows []map[string]any
		want Hourly
	}{
		{"the one of Linux among the others", []map[string]any{windows, spot, low, row(), row("type=DevTestConsumption", "retailPrice=0.2"), row("type=Reservation", "retailPrice=1000", "reservationTerm=1 Year")}, Hourly{0.24, 0.05}},
		{"not of a region that shares the meter", []map[string]any{row("isPrimaryMeterRegion=false", "retailPrice=9"), row()}, Hourly{Regular: 0.24}},
		{"not of Cloud Services, nor a host", []map[string]any{row("productName=Ddsv5 Series Cloud Services", "retailPrice=9"), row("productName=Ddsv5 Series CloudServices", "retailPrice=9"),
			row("productName=Virtual Machines Ddsv5 Dedicated Host", "retailPrice=9"), row()}, Hourly{Regular: 0.24}},
		{"the newest", []map[string]any{row("effectiveStartDate=2020-01-01T00:00:00Z", "retailPrice=9"), row(), row("effectiveStartDate=2022-01-01T00:00:00Z", "retailPrice=8")}, Hourly{Regular: 0.24}},
		{"by the hour", []map[string]any{row("unitOfMeasure=100 Hours", "retailPrice=24"), row()}, Hourly{Regular: 0.24}},
		{"without a discount for many", []map[string]any{row("tierMinimumUnits=100", "retailPrice=9"), row()}, Hourly{Regular: 0.24}},
		{"nothing costs nothing", []map[string]any{row("retailPrice=0"), row()}, Hourly{Regular: 0.24}},
		{"whatever the order", []map[string]any{row("retailPrice=0.23"), row(), row("retailPrice=0.22")}, Hourly{Regular: 0.24}},
		{"spot alone", []map[string]any{spot}, Hourly{Spot: 0.05}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, func(w http.ResponseWriter, r *http.Request) { page(w, test.rows, "") })
			got, err := New(s.URL, "USD", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "Standard_D4ds_v5")
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Error(err, diff)
			}
		})
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { page(w, []map[string]any{windows, low}, "") })
	if got, err := New(s.URL, "USD", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "Standard_D4ds_v5"); !errors.Is(err, ErrNoPrice) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestControlPlane(t *testing.T) {
	rows := []map[string]any{row("meterName=Standard Uptime SLA", "retailPrice=0.1"), row("meterName=Standard Long Term Support", "retailPrice=0.6"), row("meterName=Automatic Hosted Control Plane", "retailPrice=0.16")}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { page(w, rows, "") })
	c := New(s.URL, "USD", http.DefaultTransport, cache.Dir{})
	for tier, want := range map[string]float64{"Free": 0, "Standard": 0.1, "Premium": 0.6} {
		if got, err := c.ControlPlane(t.Context(), "westeurope", tier); err != nil || got.Regular != want {
			t.Errorf("%s: %v, %v", tier, got, err)
		}
	}
}

func TestQuestion(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/api/retail/prices" || q.Get("currencyCode") != "'EUR'" || q.Get("api-version") != pricesVersion ||
			q.Get("$filter") != "serviceName eq 'Virtual Machines' and armRegionName eq 'westeurope' and armSkuName eq 'It''s' and priceType eq 'Consumption'" {
			t.Errorf("asked %s", r.URL)
		}
		page(w, []map[string]any{row("currencyCode=EUR")}, "")
	})
	if _, err := New(s.URL, "EUR", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "It's"); err != nil {
		t.Error(err)
	}
}

func TestPages(t *testing.T) {
	var s *httptest.Server
	s = serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("$skip") {
		case "":
			page(w, []map[string]any{row("productName=x Windows")}, s.URL+path+"?$skip=100")
		case "100":
			page(w, []map[string]any{row("retailPrice=0.3")}, "")
		}
	})
	got, err := New(s.URL, "USD", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "a")
	if err != nil || got.Regular != 0.3 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOwn(t *testing.T) {
	c := New("", "USD", http.DefaultTransport, cache.Dir{})
	for link, want := range map[string]bool{
		"https://prices.azure.com:443/api/retail/prices?$skip=100": true, "https://PRICES.azure.com/x": true,
		"http://prices.azure.com/x": false, "https://prices.azure.com:8443/x": false, "https://prices.azure.com.evil.example/x": false,
		"https://evil.example/x": false, "https://user@prices.azure.com/x": false, "/relative": false, "://": false,
	} {
		if c.own(link) != want {
			t.Errorf("%s: %v", link, !want)
		}
	}
}

func TestFailures(t *testing.T) {
	var s *httptest.Server
	for name, answer := range map[string]http.HandlerFunc{
		"a page elsewhere":  func(w http.ResponseWriter, r *http.Request) { page(w, nil, "https://evil.example/next") },
		"pages without end": func(w http.ResponseWriter, r *http.Request) { page(w, nil, s.URL+path) },
		"another currency":  func(w http.ResponseWriter, r *http.Request) { page(w, []map[string]any{row("currencyCode=EUR")}, "") },
		"no JSON":           func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"refused":           func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusBadRequest) },
		"a redirection": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.example/", http.StatusFound)
		},
		"nothing is sold there": func(w http.ResponseWriter, r *http.Request) { page(w, nil, "") },
	} {
		t.Run(name, func(t *testing.T) {
			s = serve(t, answer)
			if got, err := New(s.URL, "USD", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "a"); err == nil {
				t.Errorf("a price: %v", got)
			} else if strings.Contains(err.Error(), s.URL) {
				t.Errorf("the address stands in %q", err)
			}
		})
	}
}

// TestThrottled waits as the list asks, by a header that is its own.
func TestThrottled(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("x-ms-ratelimit-retailPrices-retry-after", "1")
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		page(w, []map[string]any{row()}, "")
	})
	got, err := New(s.URL, "USD", http.DefaultTransport, cache.Dir{}).VM(t.Context(), "westeurope", "a")
	if err != nil || got.Regular != 0.24 || asked.Load() != 2 {
		t.Errorf("%v, %v after %d questions", got, err, asked.Load())
	}
	response, err := standard{http.DefaultTransport}.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil))
	if err != nil || response.Header.Get("Retry-After") != "" {
		t.Errorf("%v: a wait that nobody asked for", err)
	}
}

func TestCache(t *testing.T) {
	var asked atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.Header.Get("Authorization") != "" {
			t.Error("a credential was sent")
		}
		page(w, []map[string]any{row(), row("currencyCode=USD")}, "")
	})
	c := New(s.URL, "USD", http.DefaultTransport, cache.Dir{Path: t.TempDir()})
	for _, size := range []string{"a", "a", "b", "a"} {
		if _, err := c.VM(t.Context(), "westeurope", size); err != nil {
			t.Fatal(err)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("asked %d times for two sizes", asked.Load())
	}
}

func serve(t *testing.T, answer http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(answer)
	t.Cleanup(s.Close)
	return s
}

func page(w http.ResponseWriter, rows []map[string]any, next string) {
	if rows == nil {
		rows = []map[string]any{}
	}
	answer := map[string]any{"BillingCurrency": "USD", "CustomerEntityId": "Default", "CustomerEntityType": "Retail", "Items": rows, "NextPageLink": nil, "Count": len(rows)}
	if next != "" {
		answer["NextPageLink"] = next
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
}
