// Command argocd does to a list of objects what Argo CD's application controller does, with
// gitops-engine and nothing around it:
//
//	argocd diff  KUBECONFIG OBJECTS.json   fill the cluster cache, compare every object
//	argocd apply KUBECONFIG OBJECTS.json   the same, and sync until that is complete
//
// It prints {"objects": N, "changed": N, "requests": N}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync/atomic"

	"github.com/argoproj/gitops-engine/pkg/cache"
	"github.com/argoproj/gitops-engine/pkg/diff"
	"github.com/argoproj/gitops-engine/pkg/engine"
	"github.com/argoproj/gitops-engine/pkg/sync"
	"github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/go-logr/logr"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
)

// managed is the label by which an object is the list's own.
const managed = "amlaks.io/stack"

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: argocd diff|apply KUBECONFIG OBJECTS.json")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "argocd:", err)
		os.Exit(1)
	}
}

type counter struct {
	next http.RoundTripper
	n    *atomic.Int64
}

func (c counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.n.Add(1)
	return c.next.RoundTrip(r)
}

func run(ctx context.Context, verb, kubeconfig, file string) error {
	objects, err := read(file)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 100000, 100000 // its own limit is not what is measured
	var requests atomic.Int64
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{next, &requests} })
	log := logr.Discard()
	clusterCache := cache.NewClusterCache(config, cache.SetLogr(log),
		cache.SetPopulateResourceInfoHandler(func(o *unstructured.Unstructured, _ bool) (any, bool) {
			own := o.GetLabels()[managed] != ""
			return own, own
		}))
	isManaged := func(r *cache.Resource) bool { own, _ := r.Info.(bool); return own }
	changed := 0
	switch verb {
	case "diff":
		if err := clusterCache.EnsureSynced(); err != nil {
			return err
		}
		live, err := clusterCache.GetManagedLiveObjs(objects, isManaged)
		if err != nil {
			return err
		}
		result := sync.Reconcile(objects, live, "", clusterCache)
		diffs, err := diff.DiffArray(result.Target, result.Live, diff.WithLogr(log))
		if err != nil {
			return err
		}
		for _, d := range diffs.Diffs {
			if d.Modified {
				changed++
			}
		}
	case "apply":
		// Client-side apply, its default, keeps the whole object in an annotation, which is at
		// most 256 KiB: the front end's routes of 1,000 services are larger, and left out.
		objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool {
			text, err := o.MarshalJSON()
			return err != nil || len(text) > 250<<10
		})
		e := engine.NewEngine(config, clusterCache, engine.WithLogr(log))
		stop, err := e.Run()
		if err != nil {
			return err
		}
		defer stop()
		results, err := e.Sync(ctx, objects, isManaged, "bench", "", sync.WithLogr(log))
		if err != nil {
			return err
		}
		for _, result := range results {
			if result.Status != common.ResultCodeSynced {
				return fmt.Errorf("%s: %s %s", result.ResourceKey, result.Status, result.Message)
			}
		}
		changed = len(results)
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"objects": int64(len(objects)), "changed": int64(changed), "requests": requests.Load(),
	})
}

func read(file string) ([]*unstructured.Unstructured, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list unstructured.UnstructuredList
	if err := list.UnmarshalJSON(data); err != nil {
		return nil, err
	}
	objects := make([]*unstructured.Unstructured, len(list.Items))
	for i := range list.Items {
		objects[i] = &list.Items[i]
	}
	return objects, nil
}
