package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/spec"
)

func (a *app) applyCommand() *cobra.Command {
	var s scope
	var yes bool
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the world equal to the file",
		Long: `apply plans, asks, and carries the plan out: what depends on nothing first, independent
branches side by side. It waits until every replica answers. Killed at any moment, run it
again: it joins what is still going on. The first Ctrl-C starts nothing more and lets
finish what runs; the second ends it.

With -o json, stdout has one object a line: {"type": "event", "address", "action",
"phase", "message", "elapsedNs"} as things happen, and at the end {"type": "result",
"done", "failed", "skipped", "refused", "scoringUris", "exitCode"}.`,
		Example: `  amlaks apply
  amlaks apply --yes --prune --timeout 45m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), s.options(), yes) },
	}
	s.flags(cmd)
	a.applyFlags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (a *app) apply(ctx context.Context, o reconcile.Options, yes bool) error {
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	s, err := a.open(stack, false)
	if err != nil {
		return err
	}
	plan, _, err := s.plan(ctx, o)
	if err != nil {
		return err
	}
	if a.output == "text" {
		printPlan(a.out, plan)
	}
	if plan.Pending() > 0 && !yes {
		if err := a.confirm("Apply these changes?", "yes"); err != nil {
			return err
		}
	}
	return a.carryOut(ctx, s, plan)
}

// carryOut applies a plan and says how it ended.
func (a *app) carryOut(ctx context.Context, s *session, plan *reconcile.Plan) error {
	progress := a.newProgress()
	result := reconcile.Apply(a.finish, s.drivers, plan, reconcile.ApplyOptions{
		Parallelism: a.parallelism, Timeout: a.timeout, Drain: ctx.Done(), Emit: progress.event,
	})
	progress.end()
	err := errorOf(result)
	uris := scoringURIs(s.stack, result.Outputs)
	if a.output == "json" {
		if printErr := json.NewEncoder(a.out).Encode(struct {
			Type        string            `json:"type"`
			Stack       string            `json:"stack"`
			Done        int               `json:"done"`
			Failed      int               `json:"failed"`
			Skipped     int               `json:"skipped"`
			Refused     int               `json:"refused"`
			ScoringURIs map[string]string `json:"scoringUris"`
			ExitCode    int               `json:"exitCode"`
		}{"result", plan.Stack, applied(result), result.Count(reconcile.Failed), result.Count(reconcile.Skipped), result.Count(reconcile.Refused), uris, exitCode(err)}); printErr != nil {
			return printErr
		}
		return err
	}
	if plan.Pending() > 0 || err != nil {
		fmt.Fprintf(a.out, "%s: %d done, %d failed, %d skipped, %d refused\n", plan.Stack, applied(result),
			result.Count(reconcile.Failed), result.Count(reconcile.Skipped), result.Count(reconcile.Refused))
	}
	for _, service := range s.stack.Services {
		if uri := uris[service.Name]; uri != "" && plan.Count(reconcile.Delete) < len(plan.Changes) {
			fmt.Fprintf(a.out, "  %s  %s\n", service.Name, uri)
		}
	}
	return err
}

// applied counts what was really done.
func applied(r *reconcile.Result) int {
	n := 0
	for _, o := range r.Outcomes {
		if o.Phase == reconcile.Done && o.Change.Action.Pending() {
			n++
		}
	}
	return n
}

func scoringURIs(stack *spec.Stack, outputs reconcile.Outputs) map[string]string {
	uris := map[string]string{}
	for _, service := range stack.Services {
		if address := outputs[kube.Address(service.Cluster, "Service", kube.FrontEnd)][kube.OutputAddress]; address != "" {
			uris[service.Name] = scoringURI(address, service.Name)
		}
	}
	return uris
}

// errorOf makes one error of how a plan ended: what failed, and the code that says how badly.
func errorOf(r *reconcile.Result) error {
	var failed []error
	interrupted, unhealthy, broken := false, 0, 0
	for _, o := range r.Outcomes {
		switch o.Phase {
		case reconcile.Failed:
			hint := ""
			if h := reconcile.HintOf(o.Err); h != "" {
				hint = "\n  hint: " + h
			}
			failed = append(failed, fmt.Errorf("%s: %w%s", o.Change.Address, o.Err, hint))
			switch reconcile.ReasonOf(o.Err) {
			case reconcile.ReasonNotHealthy, reconcile.ReasonUnschedulable, reconcile.ReasonImagePull, reconcile.ReasonCrashLoop:
				unhealthy++
			case reconcile.ReasonOwned, reconcile.ReasonProtected, reconcile.ReasonImmutable:
			default:
				broken++
			}
		case reconcile.Refused:
			failed = append(failed, fmt.Errorf("%s: refused: %w", o.Change.Address, o.Err))
		case reconcile.Skipped:
			interrupted = interrupted || reconcile.ReasonOf(o.Err) == reconcile.ReasonInterrupted
		}
	}
	code := exitRefused
	switch {
	case interrupted:
		failed = append(failed, errors.New("interrupted: run apply again to go on"))
		code = exitInterrupted
	case len(failed) == 0:
		return nil
	case broken > 0 && applied(r) > 0:
		code = exitPartial
	case broken > 0:
		code = exitError1
	case unhealthy > 0:
		code = exitNotHealthy
	}
	return exitError{code: code, err: errors.Join(failed...)}
}

// confirm asks a person; where there is none it refuses.
func (a *app) confirm(question, answer string) error {
	if !a.isTTY {
		return exitError{code: exitRefused, err: errors.New("nobody is there to ask: --yes answers for them")}
	}
	fmt.Fprintf(a.err, "%s Type %q: ", question, answer)
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != answer {
		return exitError{code: exitRefused, err: errors.New("not confirmed; nothing was changed")}
	}
	return nil
}
