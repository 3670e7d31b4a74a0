// Command flux does to a list of objects what Flux's kustomize-controller does, with the
// same package and nothing around it:
//
//	flux diff  KUBECONFIG OBJECTS.json   the dry-run of every object
//	flux apply KUBECONFIG OBJECTS.json   ApplyAllStaged, its drift detection included
//
// It prints {"objects": N, "changed": N, "requests": N}.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// concurrency is what fluxcd/pkg#614 measured with; the controller's default is 4.
const concurrency = 8

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: flux diff|apply KUBECONFIG OBJECTS.json")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "flux:", err)
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
	config.QPS, config.Burst = -1, -1 // its own limit is not what is measured
	var requests atomic.Int64
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{next, &requests} })
	manager, err := newManager(config)
	if err != nil {
		return err
	}
	changed := 0
	switch verb {
	case "apply":
		set, err := manager.ApplyAllStaged(ctx, objects, ssa.DefaultApplyOptions())
		if err != nil {
			return err
		}
		for _, entry := range set.Entries {
			if entry.Action != ssa.UnchangedAction {
				changed++
			}
		}
	case "diff":
		if changed, err = diff(ctx, manager, objects); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{
		"objects": int64(len(objects)), "changed": int64(changed), "requests": requests.Load(),
	})
}

func newManager(config *rest.Config) (*ssa.ResourceManager, error) {
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	mapper, err := apiutil.NewDynamicRESTMapper(config, httpClient)
	if err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{HTTPClient: httpClient, Mapper: mapper})
	if err != nil {
		return nil, err
	}
	manager := ssa.NewResourceManager(c, polling.NewStatusPoller(c, mapper, polling.Options{}), ssa.Owner{Field: "amlaks", Group: "bench.example"})
	manager.SetConcurrency(concurrency)
	return manager, nil
}

func diff(ctx context.Context, manager *ssa.ResourceManager, objects []*unstructured.Unstructured) (int, error) {
	var changed atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(concurrency)
	for _, object := range objects {
		group.Go(func() error {
			entry, _, _, err := manager.Diff(ctx, object, ssa.DefaultDiffOptions())
			if err == nil && entry.Action != ssa.UnchangedAction {
				changed.Add(1)
			}
			return err
		})
	}
	return int(changed.Load()), group.Wait()
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
