package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
)

func (a *app) destroyCommand() *cobra.Command {
	var yes string
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Delete everything that bears the stack's name",
		Long: `destroy deletes the stack's services and the clusters that amlaks made; attached
clusters are detached and stay as they are. Images stay in the registry. A protected
cluster is refused: apply the file with protect: false first.`,
		Example: `  amlaks destroy
  amlaks destroy --yes churn`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.destroy(cmd.Context(), yes) },
	}
	a.applyFlags(cmd)
	cmd.Flags().StringVar(&yes, "yes", "", "do not ask; takes the stack's `NAME`")
	return cmd
}

func (a *app) destroy(ctx context.Context, yes string) error {
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	if yes != "" && yes != stack.Name {
		return exitError{code: exitRefused, err: fmt.Errorf("--yes %s: the stack's name is %s; nothing was changed", yes, stack.Name)}
	}
	a.destroying = true
	s, err := a.open(stack, false)
	if err != nil {
		return err
	}
	plan, err := s.plan(ctx, reconcile.Options{Destroy: true})
	if err != nil {
		return err
	}
	if a.output == "text" {
		printPlan(a.out, a.colors, plan)
	}
	if plan.Pending() == 0 {
		return nil
	}
	if yes == "" {
		if err := a.confirm("Delete all this?", stack.Name); err != nil {
			return err
		}
	}
	return a.locked(ctx, s, plan, yes == "")
}
