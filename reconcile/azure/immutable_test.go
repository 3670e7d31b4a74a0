package azure_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
)

// rich is a stack that uses every key of a cluster that amlaks makes, but privateCluster.
const rich = `- name: prod
  purpose: DevTest
  vmSize: Standard_D4ds_v5
  agentCount: 2
  protect: false
  kubernetesVersion: "1.36"
  zones: [1, 2]
  maxPods: 110
  identity: {userAssigned: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/ml-prod/providers/Microsoft.ManagedIdentity/userAssignedIdentities/aks}
  vnet: {resourceGroup: net, name: hub, subnet: aks, serviceCidr: 10.1.0.0/16, dnsServiceIP: 10.1.0.10}
  authorizedIpRanges: [203.0.113.7, 198.51.100.0/24]
  tags: {cost: "7"}
  nodePools:
  - {name: gpu, vmSize: Standard_NC4as_T4_v3, minCount: 1, maxCount: 3, labels: {accelerator: nvidia}, taints: ["sku=gpu:NoSchedule"]}
  - {name: cheap, vmSize: Standard_D4ds_v5, agentCount: 1, spot: true}`

const private = `- {name: prod, purpose: DevTest, agentCount: 1, protect: false, privateCluster: true}`

// leaves are the paths of a body that hold no object, with their values.
func leaves(b map[string]any, under string, into map[string]any) {
	for key, value := range b {
		path := strings.TrimPrefix(under+"."+key, ".")
		if below, ok := value.(map[string]any); ok && len(below) > 0 {
			leaves(below, path, into)
			continue
		}
		into[path] = value
	}
}

// drifted is another value of the kind that AKS has there.
func drifted(path string, value any) any {
	switch value := value.(type) {
	case bool:
		return !value
	case float64:
		return value + 1
	case []any:
		if strings.HasSuffix(path, "authorizedIPRanges") {
			return []any{"192.0.2.0/24"}
		}
		if strings.HasSuffix(path, "availabilityZones") {
			return []any{"3"}
		}
		return []any{"drift=yes:NoSchedule"}
	case nil:
		if strings.HasSuffix(path, "Count") {
			return 5.0
		}
	case string:
		switch path {
		case "properties.kubernetesVersion", "properties.orchestratorVersion":
			return "1.35"
		case "tags.amlaks-protect":
			return "true"
		case "properties.vnetSubnetID":
			return value + "2" // another one of the same network
		}
	}
	return "drifted"
}

// nested is a body with one path.
func nested(path string, value any) map[string]any {
	key, rest, more := strings.Cut(path, ".")
	if !more {
		return map[string]any{key: value}
	}
	return map[string]any{key: nested(rest, value)}
}

// liveValue is what is at a path of a live resource.
func (w *world) liveValue(id, path string) any {
	w.t.Helper()
	return w.get(id, strings.Split(path, ".")...)
}

// declared are the stack's resources as the plan gets them, by address.
func (w *world) declared(stack string) map[reconcile.Address]reconcile.Resource {
	w.t.Helper()
	driver, err := azure.New(w.connect(true), parse(w.t, stack), azure.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	all, err := driver.Resources()
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[reconcile.Address]reconcile.Resource{}
	for _, r := range all {
		if !r.Data {
			out[r.Address] = r
		}
	}
	return out
}

func idOf(address reconcile.Address) string {
	if _, pool, ok := strings.Cut(string(address), "/pool/"); ok {
		return clusterID("prod") + "/agentPools/" + pool
	}
	return clusterID("prod")
}

// TestPromise5EveryFieldIsUpdatableOrInTheTable: whatever amlaks sends, a difference of it is
// either written and gone then, or refused with the sentence that the table has for it.
func TestPromise5EveryFieldIsUpdatableOrInTheTable(t *testing.T) {
	t.Parallel()
	w := start(t)
	clusterTable, poolTable := azure.ImmutableTables()
	untried := map[string]bool{}
	delete(poolTable, "name") // no field: see TestRotateTwoAlike
	for path := range clusterTable {
		untried["cluster "+path] = true
	}
	for path := range poolTable {
		untried["pool "+path] = true
	}
	for name, lines := range map[string]string{"rich": rich, "private": private} {
		stack := clusters(lines)
		w.converge(stack, reconcile.Options{})
		declared := w.declared(stack)
		for _, address := range slices.Sorted(maps.Keys(declared)) {
			r := declared[address]
			paths := map[string]any{}
			leaves(r.Desired, "", paths)
			kind, id := "cluster ", idOf(address)
			if strings.Contains(string(address), "/pool/") {
				kind = "pool "
			}
			for _, path := range slices.Sorted(maps.Keys(paths)) {
				if r.Compare[path] == reconcile.CreateOnly || strings.HasSuffix(path, "amlaks-stack") || strings.Contains(path, ".amlaks-tags") || strings.Contains(path, ".amlaks-labels") {
					continue // kept for life; the mark of ownership; written with the next change
				}
				if path == "properties.vnetSubnetID" && paths[path] == nil {
					continue // into a network from none: see TestRefusals
				}
				t.Run(name+"/"+string(address)+"/"+path, func(t *testing.T) {
					w := &world{Sandbox: w.Sandbox, t: t}
					before := w.liveValue(id, path)
					value := before
					if value == nil {
						value = paths[path]
					}
					w.overlay(id, nested(path, drifted(path, value)))
					w.ClearRequests()
					s := w.plan(stack, reconcile.Options{})
					strategy, immutable := r.Immutable[path]
					if !immutable {
						s.wantActions(map[reconcile.Address]reconcile.Action{address: reconcile.Update})
						wantDone(t, s.apply(t.Context()))
						if diff := cmp.Diff(before, w.liveValue(id, path)); diff != "" {
							t.Errorf("afterwards (-before +after):\n%s", diff)
						}
						w.wantSteady(stack, reconcile.Options{})
						return
					}
					delete(untried, kind+path)
					if strategy.Action == reconcile.Rotate { // carried out in the tests of rotation
						s.wantActions(map[reconcile.Address]reconcile.Action{address: reconcile.Rotate})
						for _, c := range s.plan.Changes {
							if c.Address == address && (c.Why != strategy.Why || !strings.HasPrefix(c.Why, path+": ")) {
								t.Errorf("why: %q", c.Why)
							}
						}
						w.overlay(id, nested(path, before))
						w.wantSteady(stack, reconcile.Options{})
						return
					}
					result := s.apply(t.Context())
					wantFailure(t, result, address, reconcile.Refused, reconcile.ReasonImmutable)
					if c := outcome(t, result, address).Change; c.Why != strategy.Why || !strings.HasPrefix(c.Why, path+": ") {
						t.Errorf("why: %q", c.Why)
					}
					w.wantWrites()
					w.overlay(id, nested(path, before))
					w.wantSteady(stack, reconcile.Options{})
				})
			}
		}
		w.converge(stack, reconcile.Options{Destroy: true})
	}
	if len(untried) > 0 {
		t.Errorf("entries of the tables that no field of the file comes to: %v", slices.Sorted(maps.Keys(untried)))
	}
}
