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
		Use:   "apply [PLAN]",
		Short: "Make the world equal to the file, or carry out a saved plan",
		Long: `apply plans, asks, and carries the plan out: what depends on nothing first, independent
branches side by side. It waits until every replica answers. Killed at any moment, run it
again: it joins what is still going on. The first Ctrl-C starts nothing more and lets
finish what runs, for --drain-timeout; the second ends it.

With PLAN, a file that plan --out wrote, it carries out exactly that and asks nothing. Each
resource is read again right before it is changed. If the change is no longer the one that
was planned, it and what depends on it are left alone, the new difference is shown, and
the exit code is 3. What was done already is not done again.

Two runs do not work on one stack at the same time: the second waits for --lock-timeout
and says for whom.

With -o json, stdout has one object a line. As things happen:
  {"type": "event", "time", "address", "action", "phase", "message", "reason", "hint",
  "elapsedNs"}, where phase is started, progress, done, failed, skipped or refused, time is
  RFC 3339 in UTC, and message, reason and hint are there when there is one. What runs is
  heard of at least every half minute.
At the end:
  {"type": "result", "stack", "done", "failed", "skipped", "refused", "stale",
  "scoringUris", "exitCode"}.
Fields and reasons may be added; amlaks schema events prints the JSON schema.`,
		Example: `  amlaks apply
  amlaks apply --yes --prune --timeout 45m
  amlaks plan --out p.json && amlaks show p.json && amlaks apply p.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return a.apply(cmd.Context(), s.options(), yes)
			}
			for _, name := range []string{"prune", "only"} {
				if cmd.Flags().Changed(name) {
					return usageError{fmt.Errorf("--%s: the plan in %s was made with its own", name, args[0])}
				}
			}
			return a.applySaved(cmd.Context(), args[0])
		},
	}
	s.flags(cmd)
	a.applyFlags(cmd)
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().IntVar(&a.maxDeletes, "max-deletes", -1, "refuse a plan that deletes more (default: maxDeletes in the file)")
	cmd.Flags().Lookup("max-deletes").DefValue = "0" // says nothing of -1
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
	plan, err := s.plan(ctx, o)
	if err != nil {
		return err
	}
	if a.output == "text" {
		printPlan(a.out, a.colors, plan)
	}
	if err := plan.CheckDeletes(a.deletesAllowed(stack)); err != nil {
		return err
	}
	asked := plan.Pending() > 0 && !yes
	if asked {
		if err := a.confirm("Apply these changes?", "yes"); err != nil {
			return err
		}
	}
	return a.locked(ctx, s, plan, asked)
}

// deletesAllowed is how many deletions one run may make.
func (a *app) deletesAllowed(stack *spec.Stack) int {
	if a.maxDeletes >= 0 {
		return a.maxDeletes
	}
	return stack.MaxDeletes
}

// carryOut applies a plan and says how it ended. An exact one is no more than what was shown.
func (a *app) carryOut(ctx context.Context, s *session, plan *reconcile.Plan, exact bool) error {
	finish, stop := a.drained(ctx)
	defer stop()
	progress := a.newProgress(ctx, plan)
	result := reconcile.Apply(finish, s.drivers, plan, reconcile.ApplyOptions{
		Parallelism: a.parallelism, Timeout: a.timeout, Drain: ctx.Done(), Exact: exact, Emit: progress.event,
	})
	progress.end()
	stale := staleOf(plan.Stack, result)
	err := errorOf(result)
	uris := map[string]string{}
	if !plan.Options.Destroy {
		uris = scoringURIs(s.stack, result.Outputs)
	}
	if a.output == "json" {
		if printErr := json.NewEncoder(a.out).Encode(struct {
			Type        string             `json:"type"`
			Stack       string             `json:"stack"`
			Done        int                `json:"done"`
			Failed      int                `json:"failed"`
			Skipped     int                `json:"skipped"`
			Refused     int                `json:"refused"`
			Stale       []reconcile.Change `json:"stale,omitempty"` // as they would be now
			ScoringURIs map[string]string  `json:"scoringUris"`
			ExitCode    int                `json:"exitCode"`
		}{"result", plan.Stack, applied(result), result.Count(reconcile.Failed), result.Count(reconcile.Skipped), result.Count(reconcile.Refused), stale.Changes, uris, exitCode(err)}); printErr != nil {
			return printErr
		}
		return err
	}
	if len(stale.Changes) > 0 {
		printStale(a.out, a.colors, stale)
	}
	if plan.Pending() > 0 || err != nil {
		fmt.Fprintf(a.out, "%s: %d done, %d failed, %d skipped, %d refused\n", plan.Stack, applied(result),
			result.Count(reconcile.Failed), result.Count(reconcile.Skipped), result.Count(reconcile.Refused))
	}
	for _, service := range s.stack.Services {
		if uri := uris[service.Name]; uri != "" {
			fmt.Fprintf(a.out, "  %s  %s\n", service.Name, uri)
		}
	}
	if plan.Pending() > 0 && !plan.Options.Destroy {
		a.printNames(s.stack, result.Outputs)
	}
	return err
}

// staleOf is what the changes refused as stale would be by now.
func staleOf(stack string, r *reconcile.Result) *reconcile.Plan {
	now := &reconcile.Plan{Stack: stack}
	for _, o := range r.Outcomes {
		if o.Now != nil {
			now.Changes = append(now.Changes, *o.Now)
		}
	}
	return now
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
	interrupted, unhealthy, broken, stale := false, 0, 0, 0
	for _, o := range r.Outcomes {
		switch o.Phase {
		case reconcile.Failed:
			failed = append(failed, fmt.Errorf("%s: %w%s", o.Change.Address, o.Err, advice(o.Err)))
			switch reconcile.ReasonOf(o.Err) {
			case reconcile.ReasonNotHealthy, reconcile.ReasonUnschedulable, reconcile.ReasonImagePull, reconcile.ReasonCrashLoop:
				unhealthy++
			case reconcile.ReasonOwned, reconcile.ReasonProtected, reconcile.ReasonImmutable:
			case reconcile.ReasonInterrupted:
				interrupted = true
			default:
				broken++
			}
		case reconcile.Refused:
			failed = append(failed, fmt.Errorf("%s: refused: %w", o.Change.Address, o.Err))
			if reconcile.ReasonOf(o.Err) == reconcile.ReasonStale {
				stale++
			}
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
	case stale > 0:
		code = exitStale
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
