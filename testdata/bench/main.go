// Command bench measures amlaks against the numbers it set out to reach (`make bench`), its
// peers beside it: on the same machine, in the same run, over the same real control plane.
//
// Everything measured is a process of its own, so that its memory and its CPU time are its
// own. Peers are other projects' code, built from testdata/peers into the user's cache: kubectl,
// and small programs around what Flux and Argo CD apply with. A row's figures are medians of
// its runs; peers that take minutes run once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster"
)

func main() {
	cluster.MaybeRunContainer()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// rows are what ROW names, in the order in which they run.
var rows = []struct {
	name    string
	measure func(context.Context, *report) error
}{
	{"validate", measureValidate},
	{"plan", measurePlan},
	{"converge", measureConverge},
	{"diff", measureDiff},
	{"go", measureGo},
}

func run(ctx context.Context, args []string) error {
	if len(args) == 5 && args[0] == "ours" { // a measured child
		services, err := strconv.Atoi(args[4])
		if err != nil {
			return err
		}
		return ours(ctx, args[1], args[2], args[3], services, os.Stdout)
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	row := flags.String("row", "", "only this row")
	out := flags.String("out", "BENCH.json", "where the figures are written")
	runs := flags.Int("runs", 5, "how often what is short is measured")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var names []string
	for _, r := range rows {
		names = append(names, r.name)
	}
	if *row != "" && !slices.Contains(names, *row) {
		return fmt.Errorf("no row %q; there is %s", *row, strings.Join(names, ", "))
	}
	dir, err := os.MkdirTemp("", "amlaks-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &report{dir: dir, runs: *runs, command: "make bench ROW="}
	defer r.close()
	var failed []error
	for _, each := range rows {
		if ctx.Err() != nil || *row != "" && *row != each.name {
			continue
		}
		r.row = each.name
		r.say("measuring")
		if err := each.measure(ctx, r); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", each.name, err))
			fmt.Fprintln(os.Stderr, "bench:", failed[len(failed)-1])
		}
	}
	r.print(os.Stdout)
	return errors.Join(append(failed, r.write(*out))...)
}
