package azure

import (
	"maps"
	"time"

	"github.com/amlaks/amlaks/reconcile"
)

// SetPrincipalFor shortens the wait of a driver for Entra ID.
func (d *Driver) SetPrincipalFor(long time.Duration) { d.principalFor = long }

// SetSettleEvery shortens the waits of a driver.
func (d *Driver) SetSettleEvery(every time.Duration) { d.settleEvery = every }

// ImmutableTables are those of clusters and of pools.
func ImmutableTables() (cluster, pool map[string]reconcile.Strategy) {
	return maps.Clone(clusterImmutable), maps.Clone(poolImmutable)
}

// ReadOnly are the lists of what only the service sets, by the SDK's type.
var ReadOnly = map[string][]string{"ManagedCluster": clusterReadOnly, "AgentPool": poolReadOnly}
