package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// patience is how long the world may take to be read before a terminal says what is read.
const patience = time.Second

// reading makes drivers say what they read when that takes long. They are in the order in
// which they are asked: Azure, the registry, the clusters.
func (a *app) reading(stack *spec.Stack, azure, image, kube reconcile.Driver) []reconcile.Driver {
	drivers := []reconcile.Driver{azure, image, kube}
	if a.silent {
		return drivers
	}
	clusters := fmt.Sprintf("%d clusters", len(stack.Clusters))
	if len(stack.Clusters) == 1 {
		clusters = "cluster " + stack.Clusters[0].Name
	}
	r := &readings{screen: a.screen, now: time.Now}
	for i, what := range []string{"Azure", "the registry and the models", clusters} {
		drivers[i] = readDriver{Driver: drivers[i], readings: r, what: what, first: i == 0}
	}
	return drivers
}

// readDriver is a driver whose observing is told of.
type readDriver struct {
	reconcile.Driver
	readings *readings
	what     string
	first    bool
}

func (d readDriver) Observe(ctx context.Context, request reconcile.Request) ([]reconcile.Live, error) {
	defer d.readings.start(d.what, d.first)()
	return d.Driver.Observe(ctx, request)
}

// readings is one look at the world, whoever is asked.
type readings struct {
	screen *screen
	now    func() time.Time
	begins time.Time // of the look
	said   time.Time // when a line was last written; never at a terminal with live lines
}

// start tells of what is read until the function that it gives is called.
func (r *readings) start(what string, first bool) (end func()) {
	if first {
		r.begins = r.now()
		r.said = r.begins
	}
	ctx, stop := context.WithCancel(context.Background())
	var clock sync.WaitGroup
	clock.Go(func() {
		ticker := time.NewTicker(redraw)
		defer ticker.Stop()
		for {
			r.tick(what)
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	})
	return func() {
		stop()
		clock.Wait()
		r.screen.show(nil)
	}
}

// spinner turns by one at each redraw.
var spinner = [...]string{"⠋", "⠙", "⠸", "⠴", "⠦", "⠇"}

// tick says at a terminal what is read, and how long that has taken; elsewhere only when it
// takes as long as a heartbeat.
func (r *readings) tick(what string) {
	now := r.now()
	waited := now.Sub(r.begins)
	clock := span{" (" + lasted(waited) + ")", dim}
	if r.screen.hasLive() {
		if columns, _ := r.screen.extent(); waited >= patience && columns >= leastColumns {
			turn := spinner[int(waited/redraw)%len(spinner)]
			r.screen.show([]row{{{turn, green}, {" reading " + what, plain}, clock}})
		}
		return
	}
	if now.Sub(r.said) >= heartbeat {
		r.said = now
		r.screen.print(row{{"still reading " + what, plain}, clock})
	}
}
