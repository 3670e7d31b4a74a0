package azure_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// nodes stands for the driver of Kubernetes, of which this one needs a little: it looks at
// Resource Manager whether it is asked at the right time, and writes down what it is asked.
type nodes struct {
	w         *world
	calls     []string
	ready     bool
	fail      error // of Drain
	done, all int   // what Drained says
}

func (n *nodes) WaitReady(_ context.Context, config, pool string, count int, progress func(string)) error {
	n.calls = append(n.calls, fmt.Sprintf("ready %s %d", pool, count))
	if config != kubeconfig {
		return errors.New("that is no kubeconfig")
	}
	if got := n.w.pool(pool, "provisioningState"); got != "Succeeded" {
		n.w.t.Errorf("the nodes of pool %s are waited for while it is %v", pool, got)
	}
	progress("waiting for nodes")
	n.ready = true
	return nil
}

func (n *nodes) Drain(ctx context.Context, config string, pools []string, progress func(string)) error {
	n.calls = append(n.calls, "drain "+strings.Join(pools, " "))
	if !n.ready {
		n.w.t.Error("nodes are drained before there are others")
	}
	if config != kubeconfig {
		return errors.New("that is no kubeconfig")
	}
	progress("drained")
	if n.fail != nil {
		return n.fail
	}
	return ctx.Err()
}

func (n *nodes) Drained(_ context.Context, _ string, pools []string) (int, int, error) {
	n.calls = append(n.calls, "look at "+strings.Join(pools, " "))
	return n.done, n.all, nil
}

// pool gives a property of an AKS pool of the cluster prod.
func (w *world) pool(name, property string) any {
	w.t.Helper()
	return w.get(clusterID("prod")+"/agentPools/"+name, "properties", property)
}

// poolNames are the AKS pools of the cluster prod.
func (w *world) poolNames() []string {
	w.t.Helper()
	profiles, _ := w.get(clusterID("prod"), "properties", "agentPoolProfiles").([]any)
	var names []string
	for _, profile := range profiles {
		name, _ := at(profile, "name").(string)
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
