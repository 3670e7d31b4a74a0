package azure

import "github.com/amlaks/amlaks/reconcile"

// noteNetworks says of clusters that are to be made in somebody's network what their identity
// needs there: Azure makes a cluster whose nodes and load balancers then get no address.
func noteNetworks(declared []reconcile.Resource, live []reconcile.Live) []reconcile.Live {
	there := map[reconcile.Address]bool{}
	for _, l := range live {
		there[l.Address] = !l.Absent
	}
	var absent []reconcile.Live
	for _, r := range declared {
		own, ok := r.Spec.(*clusterSpec)
		if !ok || own.Attach != nil || own.VNet == nil || there[r.Address] {
			continue
		}
		who := "the identity that Azure makes for it, which there is once it is made"
		if own.Identity != nil {
			who = own.Identity.UserAssigned
		}
		absent = append(absent, reconcile.Live{Address: r.Address, Absent: true, Notes: []reconcile.Note{{
			Level:   reconcile.Info,
			Message: "its load balancers get addresses in virtual network " + own.VNet.Name + " only if its identity may change it",
			Hint:    "give the role Network Contributor on the network to " + who,
			Data:    map[string]any{"subnet": *own.pools[0].VnetSubnetID, "role": "Network Contributor"},
		}}})
	}
	return absent
}
