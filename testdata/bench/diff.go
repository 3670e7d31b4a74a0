package main

import (
	"context"
	"fmt"
	"strings"
)

// diffServices make 5,000 objects, those of the front end apart.
const diffServices = 5000 / objectsOf

// mostServices make 10,000 objects: memory must be bounded there too.
const mostServices = 10_000 / objectsOf

// kubectlServices is what kubectl is given: it is slow, and in proportion.
const kubectlServices = 100

// measureDiff: objects that are there and unchanged are compared with what is desired.
func measureDiff(ctx context.Context, r *report) error {
	kubeconfig, stop, err := r.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer stop()
	sizes := append(growth[:len(growth):len(growth)], diffServices, mostServices)
	for _, services := range sizes {
		r.say("writing %d services", services)
		if _, err := r.child(ctx, "apply", kubeconfig, services); err != nil {
			return err
		}
		u, err := repeat(r.runs, func() (usage, error) { return r.child(ctx, "plan", kubeconfig, services) })
		if err != nil {
			return err
		}
		if u.Changed != 0 {
			return fmt.Errorf("%d services: %d objects differ", services, u.Changed)
		}
		compare := (u.ObserveMs + u.PlanMs) / 1000
		r.say("%d services: %d objects, LIST and compare %.3f s, rendering %.3f s, all of the process %.3f s, %.2f s CPU, %.0f MiB, %d requests",
			services, u.Objects, compare, u.RenderMs/1000, u.seconds(), u.cpuSeconds(), u.mebibytes(), u.Requests)
		below, requests := 0.0, 0.0
		if services == diffServices {
			// The namespace, and a page for each thousand of seven kinds, four of which have 1,250.
			below, requests = 0.75, 1+7+4+1
		}
		what := fmt.Sprintf("%d services", services)
		r.add(what+", LIST and compare", compare, "s", below)
		r.add(what+", whole process", u.seconds(), "s", 0)
		r.add(what+", CPU", u.cpuSeconds(), "s", 0)
		r.add(what+", memory", u.mebibytes(), "MiB", 0)
		r.add(what+", requests", float64(u.Requests), "requests", requests)
		r.none(what+", writes and dry-runs", float64(u.Writes), "requests")
	}
	return r.diffPeers(ctx, kubeconfig)
}

func (r *report) diffPeers(ctx context.Context, kubeconfig string) error {
	what := fmt.Sprintf("%d services", diffServices)
	for name, title := range map[string]string{"flux": fluxName, "argocd": argoName} {
		binary, err := r.peer(ctx, name)
		if err != nil {
			return err
		}
		file, err := r.objects(ctx, kubeconfig, diffServices)
		if err != nil {
			return err
		}
		u, err := told(ctx, binary, "diff", kubeconfig, file)
		if err != nil {
			return err
		}
		r.say("%s: %d objects, %.1f s, %.1f s CPU, %.0f MiB, %d requests", name, u.Objects, u.seconds(), u.cpuSeconds(), u.mebibytes(), u.Requests)
		r.beside(what+", whole process", title, u.seconds())
		r.beside(what+", CPU", title, u.cpuSeconds())
		r.beside(what+", memory", title, u.mebibytes())
		r.beside(what+", requests", title, float64(u.Requests))
	}
	u, err := r.kubectlDiff(ctx, nil, kubeconfig, kubectlServices)
	if err != nil {
		return err
	}
	what = fmt.Sprintf("%d services", kubectlServices)
	r.beside(what+", whole process", kubectlOne+" diff", u.seconds())
	r.beside(what+", CPU", kubectlOne+" diff", u.cpuSeconds())
	r.beside(what+", memory", kubectlOne+" diff", u.mebibytes())
	r.beside(what+", requests", kubectlOne+" diff", float64(u.Requests))
	return nil
}

// kubectlDiff is `kubectl diff` by server-side apply, under our field manager. Its log counts
// its requests. Exit code 1 says that there is a difference.
func (r *report) kubectlDiff(ctx context.Context, environment []string, kubeconfig string, services int) (usage, error) {
	binary, err := r.peer(ctx, "kubectl")
	if err != nil {
		return usage{}, err
	}
	file, err := r.objects(ctx, kubeconfig, services)
	if err != nil {
		return usage{}, err
	}
	u, err := measure(ctx, []int{1}, environment, binary, "--kubeconfig", kubeconfig, "--cache-dir", r.dir,
		"diff", "--server-side", "--field-manager=amlaks", "--force-conflicts", "-v=6", "-f", file)
	if err != nil {
		return u, err
	}
	if u.code != 0 {
		return u, fmt.Errorf("kubectl diff sees a difference: %s", last(u.stdout, 1000))
	}
	u.Requests = kubectlRequests(u)
	r.say("kubectl diff: %d services, %.1f s, %.1f s CPU, %.0f MiB, %d requests", services, u.seconds(), u.cpuSeconds(), u.mebibytes(), u.Requests)
	return u, nil
}

// kubectlRequests counts the answers in a log of level 6.
func kubectlRequests(u usage) int { return strings.Count(string(u.stderr), `"Response" verb=`) }
