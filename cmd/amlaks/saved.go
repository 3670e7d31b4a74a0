package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
)

// maxPlan bounds what is read as a plan: one of 10,000 services is about 20 MiB.
const maxPlan = 256 << 20

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show PLAN",
		Short: "Show a saved plan; needs no network and no file beside it",
		Long: `show prints a plan that plan --out wrote, as plan printed it. It asks nobody: it works
offline, and for as long as the file is there. - reads standard input.`,
		Example: `  amlaks plan --out p.json
  amlaks show p.json
  amlaks show p.json -o json | jq '.changes[] | select(.action == "delete").address'`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			plan, err := a.readPlan(args[0])
			if plan == nil {
				return err
			}
			if a.output == "json" {
				data, encodeErr := plan.Encode()
				if encodeErr != nil {
					return encodeErr
				}
				if _, writeErr := a.out.Write(data); writeErr != nil {
					return writeErr
				}
				return err
			}
			printPlan(a.out, a.colors, plan)
			return err
		},
	}
}

// readPlan reads a saved plan. One that was changed since is given beside its error.
func (a *app) readPlan(path string) (*reconcile.Plan, error) {
	in := a.in
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, maxPlan+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > maxPlan {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB, which no plan is", path, maxPlan>>20)
	}
	return reconcile.DecodePlan(path, data)
}

// applySaved carries out a saved plan, as far as it is still what would be planned.
func (a *app) applySaved(ctx context.Context, path string) error {
	saved, err := a.readPlan(path)
	if err != nil {
		return err
	}
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	s, err := a.open(stack, false)
	if err != nil {
		return err
	}
	switch {
	case saved.Stack != stack.Name:
		err = fmt.Errorf("%s is a plan of the stack %s, and %s is the stack %s", path, saved.Stack, a.file, stack.Name)
	case saved.Target != s.target:
		err = fmt.Errorf("%s is a plan for %s, and %s is for %s", path, saved.Target, a.file, s.target)
	}
	if err != nil {
		return exitError{code: exitRefused, err: errors.Join(err, errors.New("nothing was changed"))}
	}
	if err := saved.CheckDeletes(a.deletesAllowed(stack)); err != nil {
		return err
	}
	fresh, err := s.plan(ctx, saved.Options)
	if err != nil {
		return err
	}
	bound, extra := saved.Bind(fresh)
	if extra > 0 {
		fmt.Fprintf(a.err, "%s: %d more changes are pending by now, which %s does not have; they are left alone\n", stack.Name, extra, path)
	}
	return a.locked(ctx, s, bound, true)
}
