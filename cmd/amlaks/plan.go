package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
)

// scope are the flags that narrow or widen a plan.
type scope struct {
	prune bool
	only  []string
}

func (s *scope) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.prune, "prune", false, "delete what bears the stack's name and has left the file")
	cmd.Flags().StringSliceVar(&s.only, "only", nil, "only these addresses, and what they depend on")
}

func (s *scope) options() reconcile.Options {
	o := reconcile.Options{Prune: s.prune}
	for _, address := range s.only {
		o.Only = append(o.Only, reconcile.Address(address))
	}
	return o
}

func (a *app) planCommand() *cobra.Command {
	var s scope
	var detailed bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change; change nothing",
		Example: `  amlaks plan
  amlaks plan --prune -o json
  amlaks plan --only kube/prod/Deployment/churn`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showPlan(cmd.Context(), s.options(), detailed) },
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&detailed, "detailed-exitcode", false, "exit 2 when changes are pending")
	return cmd
}

func (a *app) diffCommand() *cobra.Command {
	var s scope
	cmd := &cobra.Command{
		Use:     "diff",
		Aliases: []string{"drift"},
		Short:   "Compare the world with the file; exit 2 when they differ",
		Long: `diff shows what plan shows and exits 2 when there is a difference, so that a pipeline
can watch for drift. It changes nothing: its connections cannot write.`,
		Example: `  amlaks diff || echo "somebody changed something"`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.showPlan(cmd.Context(), s.options(), true) },
	}
	s.flags(cmd)
	return cmd
}

func (a *app) showPlan(ctx context.Context, o reconcile.Options, detailed bool) error {
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	s, err := a.open(stack, true)
	if err != nil {
		return err
	}
	plan, _, err := s.plan(ctx, o)
	if err != nil {
		return err
	}
	if a.output == "json" {
		if err := printJSON(a.out, plan); err != nil {
			return err
		}
	} else {
		printPlan(a.out, plan)
	}
	if detailed && plan.Pending() > 0 {
		return exitError{code: exitPending}
	}
	return nil
}
