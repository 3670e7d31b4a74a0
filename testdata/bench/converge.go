package main

import (
	"context"
	"fmt"
)

// growth is what the growth of ours is measured over, in services.
var growth = [...]int{10, 100, 1000}

// measureConverge: from nothing to every Deployment rolled out.
func measureConverge(ctx context.Context, r *report) error {
	biggest := growth[len(growth)-1]
	if err := r.convergeOurs(ctx); err != nil {
		return err
	}
	for _, name := range []string{"flux", "argocd"} {
		if err := r.convergePeer(ctx, name, biggest); err != nil {
			return err
		}
	}
	return nil
}

func (r *report) convergeOurs(ctx context.Context) error {
	kubeconfig, stop, err := r.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer stop()
	for _, services := range growth {
		u, err := r.child(ctx, "apply", kubeconfig, services)
		if err != nil {
			return err
		}
		again, err := r.child(ctx, "plan", kubeconfig, services)
		if err != nil {
			return err
		}
		if again.Changed != 0 {
			return fmt.Errorf("%d services: %d objects still differ", services, again.Changed)
		}
		r.say("%d services: %d objects, %.1f s, %.1f s CPU, %.0f MiB, %d requests, %d of them writes",
			services, u.Objects, u.seconds(), u.cpuSeconds(), u.mebibytes(), u.Requests, u.Writes)
		wall, memory := 0.0, 0.0
		if services == growth[len(growth)-1] {
			wall, memory = 60, 150
		}
		what := fmt.Sprintf("%d services", services)
		r.add(what+", wall", u.seconds(), "s", wall)
		r.add(what+", memory", u.mebibytes(), "MiB", memory)
		r.add(what+", CPU", u.cpuSeconds(), "s", 0)
		r.add(what+", requests", float64(u.Requests), "requests", 0)
	}
	return nil
}

// convergePeer gives a peer a cluster of its own, as new as ours was. Neither waits until
// Deployments are rolled out, as ours does: an apply of theirs ends with the last write.
func (r *report) convergePeer(ctx context.Context, name string, services int) error {
	binary, err := r.peer(ctx, name)
	if err != nil {
		return err
	}
	kubeconfig, stop, err := r.controlPlane(ctx)
	if err != nil {
		return err
	}
	defer stop()
	file, err := r.objects(ctx, kubeconfig, services)
	if err != nil {
		return err
	}
	u, err := told(ctx, binary, "apply", kubeconfig, file)
	if err != nil {
		return err
	}
	r.say("%s: %d objects, %.1f s, %.1f s CPU, %.0f MiB, %d requests", name, u.Objects, u.seconds(), u.cpuSeconds(), u.mebibytes(), u.Requests)
	title := map[string]string{"flux": fluxName, "argocd": argoName}[name]
	what := fmt.Sprintf("%d services", services)
	r.beside(what+", wall", title, u.seconds())
	r.beside(what+", memory", title, u.mebibytes())
	r.beside(what+", CPU", title, u.cpuSeconds())
	if name != "argocd" { // what it applies with, kubectl's code, makes connections of its own
		r.beside(what+", requests", title, float64(u.Requests))
	}
	return nil
}
