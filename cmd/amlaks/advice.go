package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/kube"
)

// estimate is what --cost asks for.
type estimate struct {
	cost     bool
	currency string
}

func (e *estimate) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&e.cost, "cost", false, "estimate what each cluster costs a month, now and with the file applied, from Azure's public price list")
	cmd.Flags().StringVar(&e.currency, "currency", "USD", "currency of --cost; others than USD are Microsoft's conversion")
}

var currencyCode = regexp.MustCompile(`^[A-Z]{3}$`)

func (e *estimate) check() error {
	switch {
	case !currencyCode.MatchString(e.currency):
		return usageError{fmt.Errorf("--currency %s: want a code of three capital letters, such as EUR", e.currency)}
	case !e.cost && e.currency != "USD":
		return usageError{fmt.Errorf("--currency %s does nothing without --cost", e.currency)}
	}
	return nil
}

// advice is what plans say beside their changes. Of what is destroyed nothing is.
func (a *app) advice(driver func() *kube.Driver) *azure.Advice {
	if a.destroying {
		return nil
	}
	about := &azure.Advice{Workloads: func(cluster string) []azure.Workload { return workloads(driver().Workloads(cluster)) }}
	if cache, err := os.UserCacheDir(); err == nil { // without one, each run asks anew
		about.CacheDir = filepath.Join(cache, "amlaks")
	}
	if a.estimate.cost {
		about.Cost = &azure.Cost{Currency: a.estimate.currency}
	}
	return about
}

// workloads are the Kubernetes driver's in the words of Azure's, which knows no Kubernetes.
func workloads(all []kube.Workload) []azure.Workload {
	out := make([]azure.Workload, 0, len(all))
	for _, w := range all {
		to := azure.Workload{
			Name: w.Deployment, Service: w.Service, Min: w.Min, Max: w.Max,
			CPU: w.Requests.Cpu().MilliValue(), Memory: w.Requests.Memory().Value(), GPU: w.GPU(), Selector: w.Selector,
		}
		for _, t := range w.Tolerations {
			to.Tolerations = append(to.Tolerations, azure.Toleration{
				Key: t.Key, Value: t.Value, Effect: string(t.Effect), Exists: t.Operator == corev1.TolerationOpExists,
			})
		}
		out = append(out, to)
	}
	return out
}
