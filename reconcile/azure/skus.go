package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/cache"
	"github.com/amlaks/amlaks/reconcile/azure/internal/capacity"
	"github.com/amlaks/amlaks/reconcile/azure/internal/skus"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/spec"
)

const (
	skusVersion = "2021-07-01"
	// maxSKUs bounds what is read of a list of sizes, which is never in memory: a hundred
	// megabytes have been seen (Azure/ARO-RP).
	maxSKUs = 1 << 30
	// maxSKUPages is more than Azure has: it answers on one.
	maxSKUPages = 20
	// alternatives is how many sizes a hint names.
	alternatives = 3
)

// region is where quotas and sizes hold.
type region struct{ subscription, location string }

// offer is what VM sizes a subscription may create in a region.
type offer struct {
	sizes  []skus.Size // sorted by name in lower case
	cached bool
	err    error // why they could not be read
}

// offers reads the list of each region once in a run, and asks Azure once a day.
type offers struct {
	driver *Driver
	cache  cache.Dir
	seen   map[region]offer
}

func (o *offers) of(ctx context.Context, r region) offer {
	found, ok := o.seen[r]
	if !ok {
		found = o.read(ctx, r, false)
		o.seen[r] = found
	}
	return found
}

// fresh asks again if what is known of a region is not of this run.
func (o *offers) fresh(ctx context.Context, r region) offer {
	found := o.of(ctx, r)
	if found.cached {
		found = o.read(ctx, r, true)
		o.seen[r] = found
	}
	return found
}

func (o *offers) read(ctx context.Context, r region, again bool) offer {
	azure := o.driver.arm
	key := []string{"skus", azure.arm.Endpoint(), strings.ToLower(r.subscription), r.location}
	var found offer
	if !again && o.cache.Get(key, &found.sizes) {
		found.cached = true
		return found
	}
	next := azure.target("/subscriptions/"+r.subscription+"/providers/Microsoft.Compute/skus", skusVersion) +
		"&%24filter=" + url.QueryEscape("location eq '"+r.location+"'")
	for range maxSKUPages {
		var page []skus.Size
		var err error
		if page, next, err = azure.readSKUs(ctx, next, r.location); err != nil {
			return offer{err: err}
		}
		found.sizes = append(found.sizes, page...)
		if next == "" {
			break
		}
	}
	slices.SortStableFunc(found.sizes, func(a, b skus.Size) int {
		return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
	})
	_ = o.cache.Put(key, found.sizes) // what cannot be kept is asked for again
	return found
}

// readSKUs reads one page of the list as it comes.
func (c *client) readSKUs(ctx context.Context, target, location string) ([]skus.Size, string, error) {
	request, err := runtime.NewRequest(withBudget(ctx, c.retry), http.MethodGet, target)
	if err != nil {
		return nil, "", err
	}
	runtime.SkipBodyDownload(request)
	response, err := c.arm.Pipeline().Do(request)
	if err != nil {
		return nil, "", err
	}
	defer response.Body.Close()
	if !runtime.HasStatusCode(response, http.StatusOK) {
		return nil, "", runtime.NewResponseError(response)
	}
	return skus.Read(io.LimitReader(response.Body, maxSKUs), location)
}

// find looks a size up.
func (o offer) find(name string) (skus.Size, bool) {
	i, ok := slices.BinarySearchFunc(o.sizes, strings.ToLower(name), func(s skus.Size, name string) int {
		return strings.Compare(strings.ToLower(s.Name), name)
	})
	if !ok {
		return skus.Size{}, false
	}
	return o.sizes[i], true
}

// machine gives what is known of a size: from the table that amlaks brings, or else from Azure.
func (o *offers) machine(ctx context.Context, r region, name string) (capacity.Machine, bool) {
	if known, ok := spec.VMSize(name); ok {
		return capacity.Machine{VCPU: known.VCPU, MemoryGiB: known.MemoryGiB, GPU: known.GPU}, true
	}
	size, ok := o.of(ctx, r).find(name)
	return capacity.Machine{VCPU: size.VCPU, MemoryGiB: size.MemoryGiB, GPU: size.GPU}, ok && size.VCPU > 0
}

// refusal says why a pool of that size and those zones cannot be made there; nil if it can. What
// a kept list says against it, Azure is asked again: a subscription may have been given it.
func (o *offers) refusal(ctx context.Context, r region, pool nodePool) *reconcile.Failure {
	refused := o.of(ctx, r).refusal(r, pool)
	if refused != nil {
		refused = o.fresh(ctx, r).refusal(r, pool)
	}
	return refused
}

func (o offer) refusal(r region, pool nodePool) *reconcile.Failure {
	if o.err != nil {
		return nil
	}
	size, ok := o.find(pool.size)
	failure := &reconcile.Failure{Reason: reconcile.ReasonUnsupported}
	switch missing := missingFrom(pool.zones, size.Zones); {
	case !ok:
		failure.Err = fmt.Errorf("node pool %s: %s has no VM size %s", pool.name, r.location, pool.size)
		failure.Hint = o.instead(pool)
	case size.Restricted != "":
		failure.Err = fmt.Errorf("node pool %s: this subscription may not create %s in %s (%s)", pool.name, size.Name, r.location, size.Restricted)
		failure.Hint = o.instead(pool) + "; or ask Azure for access: portal, Help + support, Service and subscription limits"
	case len(missing) > 0:
		failure.Err = fmt.Errorf("node pool %s: this subscription has no %s in zone %s of %s", pool.name, size.Name, strings.Join(missing, ", "), r.location)
		failure.Hint = "another region, or a size that is there: " + o.instead(pool)
		if len(size.Zones) > 0 {
			failure.Hint = "zones " + strings.Join(size.Zones, ", ") + " have it; or " + o.instead(pool)
		}
	default:
		return nil
	}
	return failure
}

// missingFrom gives what of a is not in b.
func missingFrom(a, b []string) []string {
	var missing []string
	for _, item := range a {
		if !slices.Contains(b, item) {
			missing = append(missing, item)
		}
	}
	return missing
}

// instead names sizes to take in the place of one that cannot be had: of as many vCPU and GPUs,
// with at least its memory and not much more, of its own generation first.
func (o offer) instead(pool nodePool) string {
	wanted, _ := o.find(pool.size)
	if known, ok := spec.VMSize(pool.size); ok {
		wanted.VCPU, wanted.MemoryGiB, wanted.GPU = known.VCPU, known.MemoryGiB, known.GPU
	}
	var others []skus.Size
	for _, size := range o.sizes {
		if size.VCPU == wanted.VCPU && size.GPU == wanted.GPU && size.MemoryGiB >= wanted.MemoryGiB && size.MemoryGiB < 2*wanted.MemoryGiB && !size.Arm &&
			size.Restricted == "" && len(missingFrom(pool.zones, size.Zones)) == 0 && !strings.EqualFold(size.Name, pool.size) {
			others = append(others, size)
		}
	}
	if len(others) == 0 {
		return "take another vmSize: az vm list-skus --location LOCATION --resource-type virtualMachines"
	}
	// Names are letters for what a size has: those of one length have much in common.
	slices.SortStableFunc(others, func(a, b skus.Size) int {
		return cmp.Or(cmp.Compare(apart(generation(a.Name), generation(pool.size)), apart(generation(b.Name), generation(pool.size))),
			cmp.Compare(apart(len(a.Name), len(pool.size)), apart(len(b.Name), len(pool.size))))
	})
	var names []string
	for _, size := range others[:min(len(others), alternatives)] {
		names = append(names, size.Name)
	}
	return "take " + strings.Join(names, ", ")
}

func apart(a, b int) int { return max(a-b, b-a) }

// generation is 5 of Standard_D4ds_v5; 0 of a size that says none.
func generation(size string) int {
	i := strings.LastIndex(size, "_v")
	if i < 0 {
		return 0
	}
	n, err := strconv.Atoi(size[i+2:])
	if err != nil {
		return 0
	}
	return n
}

// briefly says what happened to a question that the plan can do without: the same words each
// time, without the request's own numbers.
func briefly(err error) string {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return strings.TrimSpace(fmt.Sprintf("HTTP %d %s", response.StatusCode, response.ErrorCode))
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return retry.Words(err)
}
