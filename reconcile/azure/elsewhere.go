package azure

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
)

// subscriptionsVersion is that of GET /subscriptions.
const subscriptionsVersion = "2022-12-01"

// listsAtATime is how many subscriptions are looked into side by side. Each has a request
// budget of its own.
const listsAtATime = 8

// clusters lists the AKS clusters of the stack's subscription, and then those of every other
// that the identity can see: one attached from there must be found when it has left the
// file, and only its own tag says that it was attached. That is one request more, and one
// for each further subscription. What the identity cannot list cannot be found.
func (d *Driver) clusters(ctx context.Context) ([]body, error) {
	own := d.stack.Workspace.SubscriptionID
	all, err := d.clustersOf(ctx, own)
	if err != nil {
		return nil, explain("list AKS clusters", err)
	}
	subscriptions, err := d.arm.list(ctx, "/subscriptions", subscriptionsVersion)
	if err != nil {
		return nil, explain("list subscriptions", err)
	}
	others := make([][]body, len(subscriptions))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listsAtATime)
	for i, subscription := range subscriptions {
		id := text(subscription, "subscriptionId")
		if id == "" || strings.EqualFold(id, own) {
			continue
		}
		group.Go(func() error {
			found, err := d.clustersOf(ctx, id)
			if isStatus(err, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound) {
				return nil // seen, but not to be looked into
			}
			others[i] = found
			return explain("list AKS clusters of subscription "+id, err)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return append(all, slices.Concat(others...)...), nil
}

func (d *Driver) clustersOf(ctx context.Context, subscription string) ([]body, error) {
	return d.arm.list(ctx, "/subscriptions/"+subscription+"/providers/Microsoft.ContainerService/managedClusters", aksVersion)
}

// subscriptionOf is a part of a resource's ID: /subscriptions/SUBSCRIPTION/...
func subscriptionOf(id string) string {
	parts := strings.SplitN(id, "/", 4)
	if len(parts) < 3 {
		return ""
	}
	return parts[2]
}

// elsewhere tells whether a cluster is in another subscription than the stack.
func (d *Driver) elsewhere(cluster body) bool {
	return !strings.EqualFold(subscriptionOf(text(cluster, "id")), d.stack.Workspace.SubscriptionID)
}

// attachedTag is the value of the tag of an attached cluster: its name in the file. In another
// subscription than the stack's it says that too, because stacks of the same name may be there.
func (d *Driver) attachedTag(id, name string) string {
	home := d.stack.Workspace.SubscriptionID
	if strings.EqualFold(subscriptionOf(id), home) {
		return name
	}
	return name + "@" + strings.ToLower(home)
}

// attachedAs is the name under which this stack has attached a live cluster; empty: it has not.
func (d *Driver) attachedAs(cluster body) string {
	name, home, foreign := strings.Cut(text(cluster, "tags", tagAttached+d.stack.Name), "@")
	if foreign != d.elsewhere(cluster) || foreign && !strings.EqualFold(home, d.stack.Workspace.SubscriptionID) {
		return ""
	}
	return name
}

// attachedFromElsewhere tells whether a stack of the same name has attached the cluster, from
// another subscription.
func (d *Driver) attachedFromElsewhere(cluster body) bool {
	_, home, foreign := strings.Cut(text(cluster, "tags", tagAttached+d.stack.Name), "@")
	return foreign && !strings.EqualFold(home, d.stack.Workspace.SubscriptionID)
}
