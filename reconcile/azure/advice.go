package azure

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/cache"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// What a plan says beside its changes: whether the services fit, whether Azure has the nodes to
// give, what they cost. None of it may fail a plan, and a plan that changes nothing asks Azure
// nothing for it.

// adviceTime bounds all questions that a plan can do without, and adviceBudget each of them: a
// region's list of sizes takes some seconds.
const (
	adviceTime   = 2 * time.Minute
	adviceBudget = time.Minute
)

// Advice is what plans are to say beside their changes, and from what. Whether Azure has the
// nodes that a plan adds is always said.
type Advice struct {
	// CacheDir is a folder for what holds for a day: VM sizes, prices. Empty: each run asks anew.
	CacheDir string
	// Workloads are the pods that the stack puts on a cluster; nil: nothing is said of whether
	// they fit.
	Workloads func(cluster string) []Workload
	// Cost estimates what the clusters cost a month; nil: nothing is said of it.
	Cost *Cost
}

// advise adds notes and refusals to what was observed.
func (d *Driver) advise(ctx context.Context, request reconcile.Request, live []reconcile.Live, location string) ([]reconcile.Live, error) {
	if d.options.Advice == nil {
		return live, nil
	}
	limited, cancel := context.WithTimeout(retry.WithBudget(ctx, min(retry.Budget(ctx), adviceBudget)), adviceTime)
	defer cancel()
	about := d.options.Advice
	a := &adviser{driver: d, about: about, live: live, offers: &offers{driver: d, cache: about.cache(), seen: map[region]offer{}}}
	clusters := d.outlooks(request, live, location)
	for i := range clusters {
		if !clusters[i].left {
			a.availability(limited, &clusters[i])
			a.fit(limited, &clusters[i])
		}
	}
	a.quota(limited, clusters)
	a.cost(limited, clusters)
	return a.live, ctx.Err()
}

// adviser says it of one observation.
type adviser struct {
	driver *Driver
	about  *Advice
	live   []reconcile.Live
	offers *offers
}

// of gives the resource that something is to be said of, as it was observed, or as what is not
// there.
func (a *adviser) of(address reconcile.Address) *reconcile.Live {
	i := slices.IndexFunc(a.live, func(l reconcile.Live) bool { return l.Address == address })
	if i < 0 {
		a.live = append(a.live, reconcile.Live{Address: address, Absent: true})
		i = len(a.live) - 1
	}
	return &a.live[i]
}

func (a *adviser) note(address reconcile.Address, n reconcile.Note) {
	l := a.of(address)
	l.Notes = append(l.Notes, n)
}

// availability refuses pools of sizes that the subscription cannot have. A cluster is made with
// its pools in one request, so the refusal is the cluster's then.
func (a *adviser) availability(ctx context.Context, o *outlook) {
	if o.attached {
		return
	}
	for _, pool := range o.after {
		if pool.stays || !o.made(pool) {
			continue
		}
		refused := a.offers.refusal(ctx, o.region, pool)
		if refused == nil {
			continue
		}
		address := poolAddress(o.address, pool.name)
		if o.absent {
			address = o.address
		}
		l := a.of(address)
		if l.Refused == nil {
			// A plan shows of a refusal its one sentence.
			l.Refused = &reconcile.Failure{Reason: refused.Reason, Err: fmt.Errorf("%w: %s", refused.Err, refused.Hint)}
		}
	}
}

// cache is where answers are kept from one run to the next.
func (a *Advice) cache() cache.Dir {
	if a.CacheDir == "" {
		return cache.Dir{}
	}
	return cache.Dir{Path: filepath.Join(a.CacheDir, "azure")}
}
