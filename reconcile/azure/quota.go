package azure

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

const usagesVersion = "2024-07-01"

// The quotas that are not a family's.
const (
	quotaCores = "cores"
	quotaSpot  = "lowPriorityCores" // all that spot pools count against
)

// demand is how many vCPU the plan adds in a region, by quota.
type demand struct {
	now, most map[string]int // most: if autoscalers go as far as they may
	surge     map[string]int // of now, what an upgrade adds for a while: its largest pool's, one goes at a time
	clusters  map[string][]reconcile.Address
	first     reconcile.Address // of the clusters that add nodes
}

// usage is one of a subscription's quotas in a region.
type usage struct {
	name, words    string
	current, limit int
}

// quota warns when the nodes that the plan adds are more vCPU than the subscription has left.
// What the plan takes away is not counted off: it may go after the new has come.
func (a *adviser) quota(ctx context.Context, clusters []outlook) {
	demands := map[region]*demand{}
	var order []region
	for i := range clusters {
		o := &clusters[i]
		if o.left || o.attached {
			continue
		}
		for _, pool := range o.after {
			now, most := o.added(pool)
			surge := 0
			if there, is := o.livePool(pool.name); is && o.upgrades {
				surge = there.surge()
			}
			if pool.stays || now <= 0 && most <= 0 && surge == 0 {
				continue
			}
			if demands[o.region] == nil {
				demands[o.region] = &demand{map[string]int{}, map[string]int{}, map[string]int{}, map[string][]reconcile.Address{}, o.address}
				order = append(order, o.region)
			}
			a.demand(ctx, o, pool, now, most, surge, demands[o.region])
		}
	}
	for _, r := range order {
		d := demands[r]
		for quota, n := range d.surge {
			d.now[quota] += n
			d.most[quota] += n
		}
		a.regionQuota(ctx, r, d)
	}
}

// demand adds up what a pool's new nodes count against.
func (a *adviser) demand(ctx context.Context, o *outlook, pool nodePool, now, most, surge int, d *demand) {
	quotas := []string{quotaSpot}
	machine, known := a.offers.machine(ctx, o.region, pool.size)
	cores := machine.VCPU
	size, listed := a.offers.of(ctx, o.region).find(pool.size)
	if listed {
		cores = max(cores, size.Cores)
	}
	if !known && !listed {
		return
	}
	if !pool.spot {
		quotas = []string{quotaCores}
		if size.Family != "" {
			quotas = append(quotas, size.Family)
		}
	}
	for _, quota := range quotas {
		d.now[quota] += now * cores
		d.most[quota] += most * cores
		d.surge[quota] = max(d.surge[quota], surge*cores)
		if !slices.Contains(d.clusters[quota], o.address) {
			d.clusters[quota] = append(d.clusters[quota], o.address)
		}
	}
}

func (a *adviser) regionQuota(ctx context.Context, r region, d *demand) {
	usages, err := a.usages(ctx, r)
	if err = cmp.Or(a.offers.of(ctx, r).err, err); err != nil {
		a.note(d.first, reconcile.Note{
			Level: reconcile.Info, Reason: reconcile.ReasonOutOfQuota, Hint: offersHint,
			Message: fmt.Sprintf("whether %s has the VM sizes and the vCPU quota for the new nodes cannot be said: %s", r.location, briefly(err)),
		})
	}
	for _, u := range usages {
		key := quotaKey(u.name)
		for quota, addresses := range d.clusters {
			if quotaKey(quota) != key {
				continue
			}
			left := max(0, u.limit-u.current)
			now, most := d.now[quota], d.most[quota]
			switch {
			case now > left:
				a.outOfQuota(r, u, now, left, d.surge[quota], addresses)
			case most > left:
				a.note(addresses[0], reconcile.Note{
					Level: reconcile.Info, Reason: reconcile.ReasonOutOfQuota,
					Message: fmt.Sprintf("at maxCount the new nodes need %d of %s in %s, and %d of %d are left: their autoscaler would stop there", most, u.words, r.location, left, u.limit),
					Hint:    r.quotaHint(u, u.current+most), Data: r.quotaData(u, most, left),
				})
			}
		}
	}
}

func (a *adviser) outOfQuota(r region, u usage, needed, left, surge int, addresses []reconcile.Address) {
	with := ""
	if len(addresses) > 1 {
		with = fmt.Sprintf(" (of %d clusters together)", len(addresses))
	}
	if surge > 0 {
		with += fmt.Sprintf(", with %d vCPU that an upgrade adds for a while,", surge)
	}
	for _, address := range addresses {
		a.note(address, reconcile.Note{
			Level: reconcile.Warning, Reason: reconcile.ReasonOutOfQuota,
			Message: fmt.Sprintf("the new nodes%s need %d of %s in %s, and %d of %d are left: Azure will refuse them", with, needed, u.words, r.location, left, u.limit),
			Hint:    r.quotaHint(u, u.current+needed), Data: r.quotaData(u, needed, left),
		})
	}
}

func (r region) quotaData(u usage, needed, left int) map[string]any {
	return map[string]any{"quota": u.name, "location": r.location, "needed": needed, "left": left, "limit": u.limit}
}

// quotaHint says how more is asked for. Azure grants it within minutes, or asks back.
func (r region) quotaHint(u usage, limit int) string {
	kind := "dedicated"
	if u.name == quotaSpot {
		kind = "lowPriority"
	}
	return fmt.Sprintf("ask for it: portal, Quotas, Compute; or az quota update --resource-name %q --resource-type %s --limit-object value=%d --scope /subscriptions/%s/providers/Microsoft.Compute/locations/%s",
		u.name, kind, limit, r.subscription, r.location)
}

// usages reads the quotas of a subscription in a region.
func (a *adviser) usages(ctx context.Context, r region) ([]usage, error) {
	list, err := a.driver.arm.list(ctx, "/subscriptions/"+r.subscription+"/providers/Microsoft.Compute/locations/"+r.location+"/usages", usagesVersion)
	if err != nil {
		return nil, err
	}
	var all []usage
	for _, item := range list {
		current, _ := item["currentValue"].(float64)
		limit, _ := item["limit"].(float64)
		u := usage{name: text(item, "name", "value"), words: text(item, "name", "localizedValue"), current: int(current), limit: int(limit)}
		if u.words == "" {
			u.words = u.name
		}
		all = append(all, u)
	}
	return all, nil
}

// quotaKey makes a family's name in the list of sizes and in that of quotas the same: they
// differ in case, and some in blanks.
func quotaKey(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }
