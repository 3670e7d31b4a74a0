package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

// The stack of the no-change plan, and how far away its world is.
const (
	planClusters = 3
	planServices = 50
	roundTrip    = 20 * time.Millisecond
)

// measurePlan runs `amlaks plan` over a sandbox in which everything is as the file has it.
// Every request to Resource Manager, the registry and the API servers takes a round trip more
// than it does; connections are for nothing. terraform is no peer here: it can be built, but
// its providers for Azure and Kubernetes cannot be had as Go modules.
func measurePlan(ctx context.Context, r *report) error {
	dir := filepath.Join(r.dir, "plan")
	if _, err := specOf(dir, planClusters, func(_ string, services int) bool { return services < planServices }); err != nil {
		return err
	}
	var far atomic.Bool
	s, err := sandbox.Start(ctx, sandbox.Options{
		Dir: filepath.Join(r.dir, "sandbox"), HollowNodes: true, Progress: os.Stderr,
		Hook: func(_ sandbox.Request, moment sandbox.Moment) bool {
			if far.Load() && moment == sandbox.Before {
				time.Sleep(roundTrip)
			}
			return true
		},
	})
	if err != nil {
		return err
	}
	defer s.Close()
	var environment []string
	for _, variable := range s.Environment() {
		environment = append(environment, variable.Name+"="+variable.Value)
	}
	file := filepath.Join(dir, "amlaks.yaml")
	r.say("applying %d services to %d clusters", planServices, planClusters)
	if _, err := measure(ctx, nil, environment, amlaks, "apply", "--yes", "-f", file); err != nil {
		return err
	}
	far.Store(true)
	u, err := repeat(r.runs, func() (usage, error) {
		s.ClearRequests()
		u, err := measure(ctx, nil, environment, amlaks, "plan", "--detailed-exitcode", "-f", file)
		for _, request := range s.Requests("all") {
			u.Requests++
			if !reads(request) {
				u.Writes++
			}
		}
		return u, err
	})
	if err != nil {
		return err
	}
	by := map[string]int{}
	for _, request := range s.Requests("all") {
		by[request.Service]++
	}
	r.say("%.2f s, %.2f s CPU, %.0f MiB, requests by service: %v", u.seconds(), u.cpuSeconds(), u.mebibytes(), by)
	what := fmt.Sprintf("%d clusters, %d services", planClusters, planServices)
	r.add(what+", wall", u.seconds(), "s", 2)
	r.add(what+", requests", float64(u.Requests), "requests", 40)
	r.none(what+", writes", float64(u.Writes), "requests")
	r.add(what+", CPU", u.cpuSeconds(), "s", 0)
	r.add(what+", memory", u.mebibytes(), "MiB", 0)
	return r.planPeer(ctx, s, file, what)
}

// reads tells that a request changes nothing: reading credentials is a POST in ARM.
func reads(r sandbox.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead ||
		r.Method == http.MethodPost && strings.HasSuffix(r.Path, "Credential") ||
		r.Method == http.MethodPatch && r.Query["dryRun"] != nil
}

// planPeer is `kubectl diff` of each cluster's objects, one after the other: it knows nothing
// of Azure and of registries.
func (r *report) planPeer(ctx context.Context, s *sandbox.Sandbox, file, what string) error {
	binary, err := r.peer(ctx, "kubectl")
	if err != nil {
		return err
	}
	stack, diagnostics := spec.Load(file)
	if stack == nil {
		return diagnostics
	}
	total := usage{}
	for _, cluster := range stack.Clusters {
		kubeconfig, err := r.credentials(ctx, s, cluster.Name)
		if err != nil {
			return err
		}
		objects, err := r.renderCluster(ctx, stack, cluster.Name, kubeconfig)
		if err != nil {
			return err
		}
		u, err := measure(ctx, []int{1}, nil, binary, "--kubeconfig", kubeconfig, "--cache-dir", r.dir,
			"diff", "--server-side", "--field-manager=amlaks", "--force-conflicts", "-v=6", "-f", objects)
		if err != nil {
			return err
		}
		if u.code != 0 {
			return fmt.Errorf("kubectl diff sees a difference: %s", last(u.stdout, 1000))
		}
		total.wall, total.cpu, total.memory = total.wall+u.wall, total.cpu+u.cpu, max(total.memory, u.memory)
		total.Requests += kubectlRequests(u)
	}
	r.say("kubectl diff: %.1f s, %d requests", total.seconds(), total.Requests)
	const name = kubectlOne + " diff (Kubernetes alone)"
	r.beside(what+", wall", name, total.seconds())
	r.beside(what+", requests", name, float64(total.Requests))
	r.beside(what+", CPU", name, total.cpuSeconds())
	r.beside(what+", memory", name, total.mebibytes())
	return nil
}

// credentials asks the sandbox's ARM for a cluster's kubeconfig, and gives its file.
func (r *report) credentials(ctx context.Context, s *sandbox.Sandbox, cluster string) (string, error) {
	path := fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.ContainerService/managedClusters/%s/listClusterAdminCredential?api-version=2025-05-01",
		sandbox.SubscriptionID, sandbox.ResourceGroup, cluster)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.ARMEndpoint()+path, nil)
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+s.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var credentials struct{ Kubeconfigs []struct{ Value string } }
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&credentials); err != nil {
		return "", err
	}
	if len(credentials.Kubeconfigs) == 0 {
		return "", fmt.Errorf("%s for the credentials of %s", response.Status, cluster)
	}
	content, err := base64.StdEncoding.DecodeString(credentials.Kubeconfigs[0].Value)
	if err != nil {
		return "", err
	}
	file := filepath.Join(r.dir, cluster+".kubeconfig")
	return file, os.WriteFile(file, content, 0o600)
}

// renderCluster writes what the stack has in one cluster, with the images that run there.
func (r *report) renderCluster(ctx context.Context, stack *spec.Stack, cluster, kubeconfig string) (string, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return "", err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return "", err
	}
	deployments, err := client.AppsV1().Deployments(kube.Namespace(stack.Name)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	images := map[string]string{}
	for _, d := range deployments.Items {
		images[d.Name] = d.Spec.Template.Spec.Containers[0].Image
	}
	driver := kube.New(stack, kube.Wiring{
		Kubeconfig:    func(name string) reconcile.Ref { return reconcile.Ref{Address: reconcile.Address("cluster/" + name)} },
		Image:         func(service, _ string) reconcile.Ref { return imageOf(service) },
		FrontEndImage: imageOf(kube.FrontEnd),
	}, os.Getenv, true)
	resources, err := driver.Resources()
	if err != nil {
		return "", err
	}
	var here []reconcile.Resource
	for _, resource := range resources {
		if strings.HasPrefix(string(resource.Address), "kube/"+cluster+"/") {
			here = append(here, resource)
		}
	}
	file, err := os.Create(filepath.Join(r.dir, cluster+".json"))
	if err != nil {
		return "", err
	}
	defer file.Close()
	return file.Name(), render(here, func(deployment string) string { return images[deployment] }, file)
}
