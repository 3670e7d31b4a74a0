package main

import (
	"context"
	"fmt"
	"os"

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
	var out string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would change; change nothing",
		Long: `plan compares the file with what is there, over connections that cannot write. With --out
it saves the plan, which holds no secret: amlaks apply FILE carries out exactly that,
and amlaks show FILE shows it again. -o json prints the same document; its schema is
what amlaks schema plan prints.

Beside the changes it warns of services that the nodes have no room for and of vCPU that
Azure will not give; with --cost it says what each cluster costs. None of it stops a plan.`,
		Example: `  amlaks plan
  amlaks plan --out p.json && amlaks apply p.json
  amlaks plan --prune -o json
  amlaks plan --cost --currency EUR
  amlaks plan --only kube/prod/Deployment/churn`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.showPlan(cmd.Context(), s.options(), detailed, out)
		},
	}
	s.flags(cmd)
	a.estimate.flags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "save the plan to `FILE`")
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
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.showPlan(cmd.Context(), s.options(), true, "") },
	}
	s.flags(cmd)
	a.estimate.flags(cmd)
	return cmd
}

// showPlan plans over connections that cannot write, and prints the plan; out, if not empty,
// is the file to save it to.
func (a *app) showPlan(ctx context.Context, o reconcile.Options, detailed bool, out string) error {
	if err := a.estimate.check(); err != nil {
		return err
	}
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	s, err := a.open(stack, true)
	if err != nil {
		return err
	}
	plan, err := s.plan(ctx, o)
	if err != nil {
		return err
	}
	data, err := plan.Encode()
	if err != nil {
		return err
	}
	if out != "" {
		if err := os.WriteFile(out, data, 0o644); err != nil {
			return err
		}
	}
	if a.output == "json" {
		if _, err := a.out.Write(data); err != nil {
			return err
		}
	} else {
		printPlan(a.out, a.colors, plan)
		if err := plan.CheckDeletes(stack.MaxDeletes); err != nil {
			fmt.Fprintf(a.err, "warning: apply would refuse this: %v\n", err)
		}
	}
	if out != "" {
		fmt.Fprintf(a.err, "saved to %s: amlaks apply %s carries out exactly this\n", out, out)
	}
	if detailed && plan.Pending() > 0 {
		return exitError{code: exitPending}
	}
	return nil
}
