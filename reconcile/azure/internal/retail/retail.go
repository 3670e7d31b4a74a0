// Package retail reads Azure's public price list (learn.microsoft.com/rest/api/cost-management/
// retail-prices). It is asked without any credential: nobody is told who asks. Prices are what
// anybody pays; a customer's agreement, reservations and savings plans are not in them, and
// those in another currency than USD are Microsoft's own conversion.
package retail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/amlaks/amlaks/reconcile/azure/internal/cache"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// Endpoint is the public list.
const Endpoint = "https://prices.azure.com"

const (
	path          = "/api/retail/prices"
	pricesVersion = "2023-01-01-preview"
	// retryAfter is the list's own header beside a 429: seconds, where others send Retry-After.
	retryAfter = "X-Ms-Ratelimit-Retailprices-Retry-After"
	maxBody    = 8 << 20
	// maxPages is more than any question here has: a size has some twenty prices in a region.
	maxPages = 10
)

// ErrNoPrice is that the list has none of what was asked for.
var ErrNoPrice = errors.New("no price is published")

// Client asks one list in one currency.
type Client struct {
	endpoint, currency string
	http               *http.Client
	cache              cache.Dir
}

// New makes a client. An empty endpoint is the public one; the transport sends no credentials.
func New(endpoint, currency string, transport http.RoundTripper, kept cache.Dir) *Client {
	if endpoint == "" {
		endpoint = Endpoint
	}
	return &Client{
		endpoint: strings.TrimSuffix(endpoint, "/"), currency: currency, cache: kept,
		http: &http.Client{
			Transport: &retry.Transport{
				Next: standard{transport}, Peer: "the price list",
				Again: func(*http.Request) bool { return true }, // it is only read
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// standard gives the list's own header its standard name.
type standard struct{ next http.RoundTripper }

func (s standard) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.next.RoundTrip(r)
	if err == nil && response.Header.Get("Retry-After") == "" && response.Header.Get(retryAfter) != "" {
		response.Header.Set("Retry-After", response.Header.Get(retryAfter))
	}
	return response, err
}

// Hourly is what one of something costs an hour; 0: that is not sold.
type Hourly struct {
	Regular float64 `json:"regular"`
	Spot    float64 `json:"spot,omitempty"` // as of today: it moves
}

// VM is the price of a VM size with Linux in a region.
func (c *Client) VM(ctx context.Context, region, size string) (Hourly, error) {
	filter := fmt.Sprintf("serviceName eq 'Virtual Machines' and armRegionName eq '%s' and armSkuName eq '%s' and priceType eq 'Consumption'", quote(region), quote(size))
	return c.hourly(ctx, []string{"price", c.endpoint, c.currency, region, size}, filter, func(items []item) Hourly {
		return Hourly{Regular: pick(items, item.linux), Spot: pick(items, item.spot)}
	})
}

// ControlPlane is the price of an AKS cluster's tier in a region: Standard or Premium. Free is.
func (c *Client) ControlPlane(ctx context.Context, region, tier string) (Hourly, error) {
	meter := ""
	switch tier {
	case "Standard":
		meter = "Standard Uptime SLA"
	case "Premium":
		meter = "Standard Long Term Support"
	default:
		return Hourly{}, nil
	}
	filter := fmt.Sprintf("serviceName eq 'Azure Kubernetes Service' and armRegionName eq '%s' and priceType eq 'Consumption'", quote(region))
	return c.hourly(ctx, []string{"price", c.endpoint, c.currency, region, "aks", tier}, filter, func(items []item) Hourly {
		return Hourly{Regular: pick(items, func(i item) bool { return i.MeterName == meter })}
	})
}

func quote(text string) string { return strings.ReplaceAll(text, "'", "''") }

// hourly asks, unless the answer is in the cache, and picks.
func (c *Client) hourly(ctx context.Context, key []string, filter string, choose func([]item) Hourly) (Hourly, error) {
	var price Hourly
	if c.cache.Get(key, &price) {
		return price, nil
	}
	items, err := c.ask(ctx, filter)
	if err != nil {
		return Hourly{}, err
	}
	if price = choose(items); price == (Hourly{}) {
		return Hourly{}, ErrNoPrice
	}
	_ = c.cache.Put(key, price) // what cannot be kept is asked for again
	return price, nil
}

// item is one price.
type item struct {
	CurrencyCode, ProductName, SkuName, MeterName, UnitOfMeasure, Type string
	RetailPrice, TierMinimumUnits                                      float64
	EffectiveStartDate                                                 time.Time
	IsPrimaryMeterRegion                                               bool
}

func (c *Client) ask(ctx context.Context, filter string) ([]item, error) {
	query := url.Values{"api-version": {pricesVersion}, "currencyCode": {"'" + c.currency + "'"}, "$filter": {filter}}
	next := c.endpoint + path + "?" + query.Encode()
	var items []item
	for range maxPages {
		var page struct {
			BillingCurrency string
			Items           []item
			NextPageLink    string
		}
		if err := c.get(ctx, next, &page); err != nil {
			return nil, err
		}
		for _, i := range page.Items {
			if i.CurrencyCode != c.currency {
				return nil, fmt.Errorf("asked for prices in %s, and got them in %q", c.currency, i.CurrencyCode)
			}
		}
		items = append(items, page.Items...)
		if page.NextPageLink == "" {
			return items, nil
		}
		if next = page.NextPageLink; !c.own(next) {
			return nil, errors.New("its next page is at another address")
		}
	}
	return nil, fmt.Errorf("more than %d pages", maxPages)
}

// own tells whether a link leads to the list itself; Azure's say the port too.
func (c *Client) own(link string) bool {
	a, errA := url.Parse(c.endpoint)
	b, errB := url.Parse(link)
	return errA == nil && errB == nil && a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b) && b.User == nil
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

func (c *Client) get(ctx context.Context, target string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err
	}
	request.Header.Set("User-Agent", "amlaks")
	response, err := c.http.Do(request)
	if err != nil {
		var whole *url.Error // which has the whole address in it
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP %d", response.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}

// hourlyConsumption tells prices by the hour from reservations, and each from its copies in
// regions that share a meter.
func (i item) hourlyConsumption() bool {
	return i.Type == "Consumption" && i.IsPrimaryMeterRegion && i.UnitOfMeasure == "1 Hour" && i.RetailPrice > 0
}

// vm tells a VM with Linux from one with Windows, and from the old Cloud Services.
func (i item) vm() bool {
	product := strings.ReplaceAll(i.ProductName, " ", "")
	return !strings.Contains(product, "Windows") && !strings.Contains(product, "CloudServices") && !strings.Contains(product, "DedicatedHost")
}

func (i item) says(words string) bool {
	return strings.Contains(i.SkuName, words) || strings.Contains(i.MeterName, words)
}

func (i item) linux() bool { return i.vm() && !i.says("Spot") && !i.says("Low Priority") }

func (i item) spot() bool { return i.vm() && i.says("Spot") }

// pick gives the price that holds now of those wanted: the newest, of the first tier. Of two
// alike it is the higher, so that the order of the list does not matter.
func pick(items []item, wanted func(item) bool) float64 {
	var best *item
	for n := range items {
		i := &items[n]
		if !i.hourlyConsumption() || !wanted(*i) || i.TierMinimumUnits > 0 {
			continue
		}
		if best == nil || i.EffectiveStartDate.After(best.EffectiveStartDate) ||
			i.EffectiveStartDate.Equal(best.EffectiveStartDate) && i.RetailPrice > best.RetailPrice {
			best = i
		}
	}
	if best == nil {
		return 0
	}
	return best.RetailPrice
}
