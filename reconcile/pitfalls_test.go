package reconcile

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPitfall has the list "Pitfalls to encode as tests" (docs: plan, diff and apply
// algorithms) as far as the planner alone decides them; each name begins with the list's own
// words. What a server does about them is tried in reconcile/azure and reconcile/kube.
func TestPitfall(t *testing.T) {
	refuse := map[string]Strategy{"cidr": {Refuse, "cidr: a cluster keeps it for life"}}
	for name, test := range map[string]struct {
		desired   body
		how       map[string]Comparator
		immutable map[string]Strategy
		live      Live // without Body: there is none
		want      Action
		diff      []FieldDiff
	}{
		"defaulted fields": {
			desired: body{"sku": body{"tier": "Free"}},
			live:    Live{Body: body{"sku": body{"tier": "Free", "name": "Base"}, "maxPods": 250}}, want: NoOp,
		},
		"defaulted fields, default depending on another field": {
			desired: body{"pluginMode": "overlay"},
			live:    Live{Body: body{"pluginMode": "overlay", "podCidr": "10.244.0.0/16"}}, want: NoOp,
		},
		"defaulted fields, left out or spelled out": {
			desired: body{"a": "Regular", "b": false, "c": "Regular"}, live: Live{Body: body{"a": "regular", "b": nil}}, want: NoOp,
			how: map[string]Comparator{"a": Default("Regular"), "b": Default("false"), "c": Default("Regular")},
		},
		"defaulted fields, another value than the default": {
			desired: body{"a": "Regular"}, live: Live{Body: body{"a": "Spot"}}, how: map[string]Comparator{"a": Default("Regular")},
			want: Update, diff: []FieldDiff{{Path: "a", Before: "Spot", After: "Regular"}},
		},
		"normalised strings, eastus vs East US": {
			desired: body{"location": "eastus"}, live: Live{Body: body{"location": "East US"}}, how: map[string]Comparator{"location": Region}, want: NoOp,
		},
		"normalised strings, another region": {
			desired: body{"location": "eastus"}, live: Live{Body: body{"location": "East US 2"}}, how: map[string]Comparator{"location": Region},
			want: Update, diff: []FieldDiff{{Path: "location", Before: "East US 2", After: "eastus"}},
		},
		"normalised strings, ID casing": {
			desired: body{"subnet": "/subscriptions/s/resourceGroups/Net/subnets/aks"}, live: Live{Body: body{"subnet": "/subscriptions/s/resourcegroups/net/subnets/AKS"}},
			how: map[string]Comparator{"subnet": Fold}, want: NoOp,
		},
		"normalised strings, CIDR": {
			desired: body{"ranges": []any{"203.0.113.7", "2001:DB8::/32"}}, live: Live{Body: body{"ranges": []any{"2001:db8::/32", "203.0.113.7/32"}}},
			how: map[string]Comparator{"ranges": CIDRSet}, want: NoOp,
		},
		// Only Kubernetes has quantities and durations: its own word, a dry-run, says that
		// they would stay as they are.
		"normalised strings, quantities 1 vs 1000m": {
			desired: body{"cpu": "1000m"}, live: Live{Body: body{"cpu": "1"}, Predicted: body{"cpu": "1"}}, want: NoOp,
		},
		"normalised strings, durations": {
			desired: body{"duration": "3600s"}, live: Live{Body: body{"duration": "1h0m0s"}, Predicted: body{"duration": "1h0m0s"}}, want: NoOp,
		},
		"write-only secrets, GET omits": {
			desired: body{"ssl": body{"key": "k"}}, live: Live{Body: body{"ssl": body{}}}, how: map[string]Comparator{"ssl.key": WriteOnly}, want: NoOp,
		},
		"write-only secrets, GET masks": {
			desired: body{"ssl": body{"key": "k"}}, live: Live{Body: body{"ssl": body{"key": "***"}}}, how: map[string]Comparator{"ssl.key": WriteOnly}, want: NoOp,
		},
		"write-only secrets, when made": {
			desired: body{"ssl": body{"key": "k"}}, how: map[string]Comparator{"ssl.key": WriteOnly},
			want: Create, diff: []FieldDiff{{Path: "ssl.key", After: masked}},
		},
		"list order, where it says nothing": {
			desired: body{"taints": []any{"a", "b"}}, live: Live{Body: body{"taints": []any{"b", "a"}}}, how: map[string]Comparator{"taints": Set}, want: NoOp,
		},
		"list order, env order is significant": {
			desired: body{"env": []any{body{"name": "A"}, body{"name": "B"}}}, live: Live{Body: body{"env": []any{body{"name": "B"}, body{"name": "A"}}}},
			want: Update, diff: []FieldDiff{{Path: "env[0].name", Before: "B", After: "A"}, {Path: "env[1].name", Before: "A", After: "B"}},
		},
		"null vs absent vs zero vs empty map, nothing": {
			desired: body{"a": nil, "b": body{}, "c": []any{}, "d": body{}}, live: Live{Body: body{"a": body{}, "b": nil, "d": []any{}}}, want: NoOp,
		},
		"null vs absent vs zero vs empty map, zero": {
			desired: body{"count": 0, "on": false, "text": ""}, live: Live{Body: body{}},
			want: Update, diff: []FieldDiff{{Path: "count", After: 0.0}, {Path: "on", After: false}, {Path: "text", After: ""}},
		},
		"PUT≠GET payload": { // what was sent is not what is read: numbers, nulls, read-only fields
			desired: body{"count": 3, "taints": []any{}}, live: Live{Body: body{"count": 3.0, "taints": nil, "provisioningState": "Succeeded", "id": "/x"}}, want: NoOp,
		},
		"transitional provisioningState": {
			desired: body{"a": 1}, live: Live{Body: body{"a": 1}, State: InProgress, Status: "Creating"}, want: Wait,
		},
		"transitional provisioningState, and a change": {
			desired: body{"a": 2}, live: Live{Body: body{"a": 1}, State: InProgress}, want: Update, diff: []FieldDiff{{Path: "a", Before: 1.0, After: 2.0}},
		},
		"fields another actor owns": { // autoscaler, HPA, add-ons, policy tags
			desired: body{"tags": body{"amlaks-stack": stack}, "autoscaling": true},
			live: Live{Body: body{"tags": body{"amlaks-stack": stack, "policy": "x"}, "autoscaling": true, "count": 7,
				"addonProfiles": body{"azurepolicy": body{"enabled": true}}}}, want: NoOp,
		},
		"removed-from-spec field": { // a driver that knows it was ours wants null there
			desired: body{"tags": body{"cost": nil, "team": "b"}}, live: Live{Body: body{"tags": body{"cost": "a", "team": "b", "policy": "x"}}},
			want: Update, diff: []FieldDiff{{Path: "tags.cost", Before: "a"}},
		},
		"removed-from-spec field, by the server's word": {
			desired: body{"a": body{"b": 1}}, live: Live{Body: body{"a": body{"b": 1, "c": 2}}, Predicted: body{"a": body{"b": 1}}},
			want: Update, diff: []FieldDiff{{Path: "a.c", Before: 2.0}},
		},
		"create-time-only fields, that a live one keeps": {
			desired: body{"dnsPrefix": "new"}, live: Live{Body: body{"dnsPrefix": "old"}}, how: map[string]Comparator{"dnsPrefix": CreateOnly}, want: NoOp,
		},
		"create-time-only fields, that the file may not change": {
			desired: body{"cidr": "10.1.0.0/16"}, live: Live{Body: body{"cidr": "10.0.0.0/16"}}, immutable: refuse,
			want: Refuse, diff: []FieldDiff{{Path: "cidr", Before: "10.0.0.0/16", After: "10.1.0.0/16"}},
		},
		"create-time-only fields, given up": {
			desired: body{"cidr": nil}, live: Live{Body: body{"cidr": "10.0.0.0/16"}}, immutable: refuse,
			want: Refuse, diff: []FieldDiff{{Path: "cidr", Before: "10.0.0.0/16"}},
		},
		"webhook mutation, of what is not owned": {
			desired: body{"a": 1}, live: Live{Body: body{"a": 1, "sidecar": true}, Predicted: body{"a": 1, "sidecar": true}}, want: NoOp,
		},
		"webhook mutation, of what is owned": { // it comes back whatever is sent, so nothing is sent
			desired: body{"pull": "Always"}, live: Live{Body: body{"pull": "IfNotPresent"}, Predicted: body{"pull": "IfNotPresent"}}, want: NoOp,
		},
		"preview API versions returning extra fields": {
			desired: body{"profile": body{"a": 1}}, live: Live{Body: body{"profile": body{"a": 1, "newer": body{"x": 1}}, "newest": []any{1}}}, want: NoOp,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := Resource{Address: "x/1", Desired: test.desired, Compare: test.how, Immutable: test.immutable}
			world := &World{}
			if test.live.Body != nil {
				test.live.Address, test.live.Owner = r.Address, stack
				world.Live = []Live{test.live}
			}
			plan, err := NewPlan(stack, []Resource{r}, world, Options{})
			if err != nil {
				t.Fatal(err)
			}
			c := plan.Changes[0]
			if c.Action != test.want {
				t.Errorf("%s %s, want %s", c.Action, c.Why, test.want)
			}
			if diff := cmp.Diff(test.diff, c.Diff); diff != "" {
				t.Errorf("diff (-want +got):\n%s", diff)
			}
		})
	}
}
