package azure

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/retail"
	"github.com/amlaks/amlaks/spec"
)

// Cost is how clusters are estimated.
type Cost struct {
	// Currency is a code of three letters: USD, EUR.
	Currency string
}

// hoursPerMonth is what Azure itself reckons with.
const hoursPerMonth = 730

const (
	pricesAtATime = 4
	// notCounted is what an estimate leaves out.
	notCounted = "without disks, load balancer and addresses, traffic, logs, registry and storage"
)

// question is a price to be asked for.
type question struct{ location, size, tier string }

type price struct {
	retail.Hourly
	err error
}

// cost notes what each cluster costs now and will cost.
func (a *adviser) cost(ctx context.Context, clusters []outlook) {
	if a.about.Cost == nil {
		return
	}
	prices := a.prices(ctx, clusters)
	for i := range clusters {
		a.clusterCost(ctx, &clusters[i], prices)
	}
}

// prices asks for all that is needed, some at a time.
func (a *adviser) prices(ctx context.Context, clusters []outlook) map[question]price {
	var questions []question
	add := func(q question) {
		if !slices.Contains(questions, q) {
			questions = append(questions, q)
		}
	}
	for i := range clusters {
		o := &clusters[i]
		for _, pool := range slices.Concat(o.before, o.after) {
			add(question{o.location, a.proper(ctx, o, pool.size), ""})
		}
		for _, tier := range []string{o.tier, o.tierBefore} {
			if paid(tier) {
				add(question{location: o.location, tier: properTier(tier)})
			}
		}
	}
	list := retail.New(a.driver.prices, a.about.Cost.Currency, plainTransport(), a.about.cache())
	answers := make([]price, len(questions))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(pricesAtATime)
	for i, q := range questions {
		group.Go(func() error {
			answers[i] = q.ask(ctx, list)
			return nil
		})
	}
	_ = group.Wait() // each answer has its own error
	all := make(map[question]price, len(questions))
	for i, q := range questions {
		all[q] = answers[i]
	}
	return all
}

func (q question) ask(ctx context.Context, list *retail.Client) price {
	var p price
	if q.tier != "" {
		p.Hourly, p.err = list.ControlPlane(ctx, q.location, q.tier)
	} else {
		p.Hourly, p.err = list.VM(ctx, q.location, q.size)
	}
	return p
}

// priceList is where prices are asked for: a Resource Manager on loopback has a list beside it.
func priceList(connection *Connection) string {
	endpoint := connection.Options.Cloud.Services[cloud.ResourceManager].Endpoint
	if u, err := url.Parse(endpoint); err == nil && reconcile.IsLoopback(u.Hostname()) {
		return endpoint
	}
	return retail.Endpoint
}

// plainTransport has no credentials, no cookies, and a pool of connections of its own.
func plainTransport() http.RoundTripper {
	if standard, ok := http.DefaultTransport.(*http.Transport); ok {
		return standard.Clone()
	}
	return http.DefaultTransport
}

// proper spells a size as the price list does, which minds the case.
func (a *adviser) proper(ctx context.Context, o *outlook, name string) string {
	if known, ok := spec.VMSize(name); ok {
		return known.Name
	}
	if size, ok := a.offers.of(ctx, o.region).find(name); ok {
		return size.Name
	}
	return name
}

func paid(tier string) bool {
	return strings.EqualFold(tier, "Standard") || strings.EqualFold(tier, "Premium")
}

func properTier(tier string) string {
	for _, known := range []string{"Free", "Standard", "Premium"} {
		if strings.EqualFold(tier, known) {
			return known
		}
	}
	return tier
}

// span is an amount a month: from the fewest nodes to the most.
type span struct{ least, most float64 }

func (s span) plus(t span) span { return span{s.least + t.least, s.most + t.most} }

func (s span) words() string {
	if math.Round(s.least*100) == math.Round(s.most*100) {
		return fmt.Sprintf("%.2f", s.least)
	}
	return fmt.Sprintf("%.2f to %.2f", s.least, s.most)
}

func (s span) data() map[string]any {
	return map[string]any{"min": math.Round(s.least*100) / 100, "max": math.Round(s.most*100) / 100}
}

// monthly is what a pool costs, and how it is reckoned.
func (p nodePool) monthly(hourly retail.Hourly) (span, string) {
	each, kind := hourly.Regular, ""
	if p.spot {
		each, kind = hourly.Spot, " spot"
	}
	count := fmt.Sprint(p.count)
	if p.most > p.count {
		count = fmt.Sprintf("%d to %d", p.count, p.most)
	}
	return span{float64(p.count) * each * hoursPerMonth, float64(p.most) * each * hoursPerMonth},
		fmt.Sprintf("%s x%s %s at %s an hour", count, kind, p.size, decimalPrice(each))
}

func decimalPrice(v float64) string {
	return strings.TrimRight(strings.TrimRight(fmt.Sprintf("%.5f", v), "0"), ".")
}

// clusterCost notes a cluster's sum, and below it, in the order of their words, its pools and
// its tier.
func (a *adviser) clusterCost(ctx context.Context, o *outlook, prices map[question]price) {
	currency := a.about.Cost.Currency
	var before, after span
	var lines []reconcile.Note
	var missing []string
	line := func(what string, now, then span, data map[string]any) {
		data["before"], data["after"] = now.data(), then.data()
		lines = append(lines, a.costNote(what+": "+change(o, now, then), data))
	}
	for _, name := range poolNames(o) {
		there, was := o.livePool(name)
		then, is := find(o.after, name)
		var now, later span
		how := ""
		for _, side := range []struct {
			pool nodePool
			here bool
			into *span
		}{{there, was, &now}, {then, is, &later}} {
			if !side.here {
				continue
			}
			p := prices[question{o.location, a.proper(ctx, o, side.pool.size), ""}]
			if err := p.of(side.pool); err != nil {
				missing = append(missing, fmt.Sprintf("%s in %s: %s", side.pool.size, o.location, priceTrouble(err)))
				continue
			}
			*side.into, how = side.pool.monthly(p.Hourly)
		}
		before, after = before.plus(now), after.plus(later)
		if then.stays && !o.left {
			how += ", has left the file"
		}
		line("pool "+name+", "+how, now, later, map[string]any{"pool": name})
	}
	tierNow, tierLater := a.tierCost(o, o.tierBefore, prices, &missing), a.tierCost(o, o.tier, prices, &missing)
	if tierNow != (span{}) || tierLater != (span{}) {
		before, after = before.plus(tierNow), after.plus(tierLater)
		line("tier "+properTier(o.tier)+" of the control plane", tierNow, tierLater, map[string]any{"tier": o.tier})
	}
	if len(missing) > 0 { // half a sum is none
		slices.Sort(missing)
		a.note(o.address, a.costNote("no estimate of what it costs: "+names(slices.Compact(missing)), map[string]any{}))
		return
	}
	data := map[string]any{"before": before.data(), "after": after.data()}
	message := fmt.Sprintf("costs about %s %s a month, %s", change(o, before, after), currency, notCounted)
	if o.left {
		message = fmt.Sprintf("costs about %s %s a month, %s; it has left the file", before.words(), currency, notCounted)
	}
	a.note(o.address, a.costNote(message, data))
	for _, n := range lines {
		a.note(o.address, n)
	}
}

func (a *adviser) costNote(message string, data map[string]any) reconcile.Note {
	data["currency"], data["hoursPerMonth"] = a.about.Cost.Currency, hoursPerMonth
	return reconcile.Note{Level: reconcile.Info, Reason: reconcile.ReasonCost, Message: message, Data: data}
}

func (a *adviser) tierCost(o *outlook, tier string, prices map[question]price, missing *[]string) span {
	if !paid(tier) {
		return span{}
	}
	p := prices[question{location: o.location, tier: properTier(tier)}]
	if p.err != nil {
		*missing = append(*missing, fmt.Sprintf("tier %s in %s: %s", properTier(tier), o.location, priceTrouble(p.err)))
	}
	return span{p.Regular * hoursPerMonth, p.Regular * hoursPerMonth}
}

// of tells why there is no price for a pool.
func (p price) of(pool nodePool) error {
	if p.err == nil && (pool.spot && p.Spot == 0 || !pool.spot && p.Regular == 0) {
		return retail.ErrNoPrice
	}
	return p.err
}

func priceTrouble(err error) string {
	if errors.Is(err, retail.ErrNoPrice) {
		return retail.ErrNoPrice.Error()
	}
	return "the price list cannot be read: " + briefly(err)
}

// change is an amount as it will be, and as it is if that is another.
func change(o *outlook, before, after span) string {
	if o.absent || before.words() == after.words() {
		return after.words()
	}
	return fmt.Sprintf("%s (now %s)", after.words(), before.words())
}

func find(pools []nodePool, name string) (nodePool, bool) {
	i := slices.IndexFunc(pools, func(p nodePool) bool { return p.name == name })
	if i < 0 {
		return nodePool{}, false
	}
	return pools[i], true
}

func poolNames(o *outlook) []string {
	var all []string
	for _, p := range slices.Concat(o.after, o.before) {
		if !slices.Contains(all, p.name) {
			all = append(all, p.name)
		}
	}
	return all
}
