package azure

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure/internal/skus"
)

// TestZones refuses pools in zones that a size is not in, or that the subscription may not use.
func TestZones(t *testing.T) {
	t.Parallel()
	o := offer{sizes: []skus.Size{ // sorted, as read
		{Name: "Standard_D4as_v5", VCPU: 4, MemoryGiB: 16, Zones: []string{"1", "2", "3"}},
		{Name: "Standard_D4ds_v5", VCPU: 4, MemoryGiB: 16, Zones: []string{"1", "3"}},
		{Name: "Standard_D4ps_v5", VCPU: 4, MemoryGiB: 16, Zones: []string{"1", "2", "3"}, Arm: true},
		{Name: "Standard_E4ds_v5", VCPU: 4, MemoryGiB: 32, Zones: []string{"1", "2", "3"}},
		{Name: "Standard_NC24ads_A100_v4", VCPU: 24, MemoryGiB: 220, GPU: 1},
	}}
	r := region{"sub", "westeurope"}
	for _, test := range []struct {
		pool nodePool
		want string
	}{
		{nodePool{name: "a", size: "standard_d4DS_v5", zones: []string{"1", "3"}}, ""},
		{nodePool{name: "a", size: "Standard_D4ds_v5"}, ""},
		{nodePool{name: "a", size: "Standard_D4ds_v5", zones: []string{"1", "2", "3"}}, "node pool a: this subscription has no Standard_D4ds_v5 in zone 2 of westeurope: zones 1, 3 have it; or take Standard_D4as_v5"},
		{nodePool{name: "a", size: "Standard_NC24ads_A100_v4", zones: []string{"1"}},
			"node pool a: this subscription has no Standard_NC24ads_A100_v4 in zone 1 of westeurope: another region, or a size that is there: take another vmSize: az vm list-skus --location LOCATION --resource-type virtualMachines"},
	} {
		got := ""
		if refused := o.refusal(r, test.pool); refused != nil {
			got = refused.Error() + ": " + refused.Hint
			if refused.Reason != reconcile.ReasonUnsupported {
				t.Errorf("reason %s", refused.Reason)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v: %s", test.pool, diff)
		}
	}
}

func TestSurge(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		count    int
		maxSurge string
		want     int
	}{{3, "", 1}, {11, "", 2}, {20, "10%", 2}, {3, "33%", 1}, {4, "33%", 2}, {5, "2", 2}, {5, "0", 1}, {5, "x", 1}, {0, "", 0}} {
		if got := (nodePool{count: test.count, maxSurge: test.maxSurge}).surge(); got != test.want {
			t.Errorf("%d nodes, maxSurge %q: %d, want %d", test.count, test.maxSurge, got, test.want)
		}
	}
}

func TestDecimalPrice(t *testing.T) {
	t.Parallel()
	for price, want := range map[float64]string{1: "1", 0.272: "0.272", 10.5: "10.5", 0.0816: "0.0816", 0.123456: "0.12346", 100: "100"} {
		if got := decimalPrice(price); got != want {
			t.Errorf("%v: %q, want %q", price, got, want)
		}
	}
}

func TestAsNodePool(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		properties body
		want       nodePool
		runs       bool
	}{
		{"what AKS shows", body{"vmSize": "Standard_D4ds_v5", "count": 3.0, "mode": "System", "maxPods": 110.0, "enableAutoScaling": false, "minCount": nil,
			"nodeLabels": body{"a": "b"}, "nodeTaints": []any{"x=y:NoSchedule"}, "availabilityZones": []any{"1", "2"}, "osType": "Linux", "upgradeSettings": body{"maxSurge": "33%"}},
			nodePool{name: "p", size: "Standard_D4ds_v5", count: 3, most: 3, system: true, maxPods: 110, labels: map[string]string{"a": "b"}, taints: []string{"x=y:NoSchedule"}, zones: []string{"1", "2"}, maxSurge: "33%"}, true},
		{"an autoscaler", body{"vmSize": "s", "count": 4.0, "enableAutoScaling": true, "minCount": 2.0, "maxCount": 9.0}, nodePool{name: "p", size: "s", count: 4, most: 9, auto: true}, true},
		{"one that is new", body{"vmSize": "s", "enableAutoScaling": true, "minCount": 2.0, "maxCount": 9.0}, nodePool{name: "p", size: "s", count: 2, most: 9, auto: true}, true},
		{"spot", body{"vmSize": "s", "count": 1.0, "scaleSetPriority": "spot"}, nodePool{name: "p", size: "s", count: 1, most: 1, spot: true}, true},
		{"Windows", body{"vmSize": "s", "count": 1.0, "osType": "Windows"}, nodePool{name: "p", size: "s", count: 1, most: 1}, false},
		{"stopped", body{"vmSize": "s", "count": 1.0, "powerState": body{"code": "Stopped"}}, nodePool{name: "p", size: "s", count: 1, most: 1}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, runs := asNodePool("p", test.properties)
			if test.want.labels == nil {
				test.want.labels = map[string]string{}
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(nodePool{})); diff != "" || runs != test.runs {
				t.Errorf("runs %v; %s", runs, diff)
			}
		})
	}
	for version, want := range map[string]int{"1.36": 36, "1.28.9": 28, "": 0, "2.1": 0, "1": 0, "1.x": 0} {
		if got := minorOf(version); got != want {
			t.Errorf("%q: %d, want %d", version, got, want)
		}
	}
}
