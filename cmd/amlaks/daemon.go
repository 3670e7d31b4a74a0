package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/daemon"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/reconcile/source"
	"github.com/amlaks/amlaks/spec"
)

// The variables that hold what signs in to git over HTTP: never an argument, which every
// process on the machine can read.
const (
	gitUsernameVariable = "AMLAKS_GIT_USERNAME"
	gitPasswordVariable = "AMLAKS_GIT_PASSWORD"
)

// daemonFlags are those of the daemon verb.
type daemonFlags struct {
	git, ref, path    string
	sshKey, knownHost string
	interval, drift   time.Duration
	listen, workDir   string
}

func (a *app) daemonCommand() *cobra.Command {
	var f daemonFlags
	cmd := &cobra.Command{
		Use:   "daemon --git URL",
		Short: "Keep the world equal to the file in git, for ever",
		Long: `daemon polls a git ref, applies each new commit, and puts drift back. A commit whose file
is not valid is reported with its line and changes nothing. What has left the file is
deleted only if the file says prune: true.

/healthz, /readyz and /metrics answer on --listen. For HTTP, AMLAKS_GIT_USERNAME and
AMLAKS_GIT_PASSWORD sign in; for SSH, --ssh-key or an agent.`,
		Example: `  amlaks daemon --git https://example.com/team/models.git --ref main --interval 30s
  amlaks daemon --git ssh://git@example.com/team/models.git --ssh-key ~/.ssh/deploy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.daemon(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.git, "git", "", "repository: https://, ssh:// or user@host:path")
	flags.StringVar(&f.ref, "ref", source.DefaultRef, "branch, tag or full ref")
	flags.StringVar(&f.path, "path", source.DefaultPath, "the file in the repository")
	flags.StringVar(&f.sshKey, "ssh-key", "", "private key file for SSH (default: the agent)")
	flags.StringVar(&f.knownHost, "known-hosts", "", "known_hosts file for SSH (default: ~/.ssh/known_hosts)")
	flags.DurationVar(&f.interval, "interval", daemon.DefaultInterval, "between two polls of the ref")
	flags.DurationVar(&f.drift, "drift-interval", 0, "between two looks for drift (default: --interval)")
	flags.StringVar(&f.listen, "listen", daemon.DefaultListen, "host:port of /healthz, /readyz and /metrics; empty: none")
	flags.StringVar(&f.workDir, "work-dir", "", "where the last good commit is kept (default: in the user's cache folder)")
	a.applyFlags(cmd)
	// MarkFlagRequired fails only for a flag that does not exist.
	_ = cmd.MarkFlagRequired("git")
	return cmd
}

func (a *app) daemon(ctx context.Context, f daemonFlags) error {
	handler := slog.Handler(slog.NewTextHandler(a.err, nil))
	if a.output == "json" {
		handler = slog.NewJSONHandler(a.err, nil)
	}
	log := slog.New(handler)
	a.silent = true
	klog.SetSlogLogger(log)
	// Not the writer that says each warning once: it remembers them for ever.
	rest.SetDefaultWarningHandler(rest.WarningLogger{})
	ctx = retry.WithSay(ctx, func(message string) { log.Info("waiting", "message", message) })
	src, err := source.New(source.Options{URL: f.git, Ref: f.ref, Path: f.path, Log: log, Auth: source.Auth{
		Username: a.getenv(gitUsernameVariable), Password: a.getenv(gitPasswordVariable),
		SSHKeyFile: f.sshKey, KnownHostsFile: f.knownHost,
	}})
	if err != nil {
		return usageError{err}
	}
	if f.workDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find a folder for the last good commit: %w; --work-dir names one", err)
		}
		f.workDir = filepath.Join(cache, "amlaks", "daemon", slug(f.git, f.ref, f.path))
	}
	notes := &noteLog{now: time.Now}
	return daemon.Run(ctx, daemon.Config{
		Source: src, Interval: f.interval, DriftInterval: f.drift, Listen: f.listen, WorkDir: f.workDir, Log: log,
		Reconcile: func(ctx context.Context, dir string, rev source.Revision) (daemon.Outcome, error) {
			return a.reconcileTree(ctx, log.With("revision", rev.Hash[:12]), notes, filepath.Join(dir, filepath.FromSlash(f.path)), f.path)
		},
	})
}

// reconcileTree makes the world equal to the file of one commit.
func (a *app) reconcileTree(ctx context.Context, log *slog.Logger, notes *noteLog, file, name string) (daemon.Outcome, error) {
	stack, err := loadCommitted(log, file, name)
	if err != nil {
		return daemon.Outcome{}, err
	}
	s, err := a.open(stack, false)
	if err != nil {
		return daemon.Outcome{}, err
	}
	o := reconcile.Options{Prune: stack.Prune}
	plan, err := s.plan(ctx, o)
	if err != nil {
		return daemon.Outcome{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if mayWrite(plan) {
		waited, err := s.lock(ctx, a.holder("daemon"), a.lockTimeout, func(message string) { log.Info(message) }, cancel)
		defer s.kube.Unlock()
		if err != nil {
			return daemon.Outcome{}, err
		}
		if waited {
			if plan, err = s.plan(ctx, o); err != nil {
				return daemon.Outcome{}, err
			}
		}
	}
	notes.write(ctx, log, plan.Notes)
	if err := plan.CheckDeletes(stack.MaxDeletes); err != nil {
		return daemon.Outcome{}, err
	}
	outcome := daemon.Outcome{Changed: plan.Pending() > 0, Changes: map[string]int{}}
	if plan.Pending() == 0 && plan.Count(reconcile.Wait) == 0 {
		outcome.Healthy = true
		return outcome, nil
	}
	for _, c := range plan.Changes {
		for _, d := range c.Diff {
			if c.Action == reconcile.Update {
				log.Info("differs", "address", c.Address, "path", d.Path, "before", value(d.Before), "after", value(d.After))
			}
		}
	}
	// A newer commit cancels ctx: nothing more is started, and what runs is given up too,
	// because the newer plan joins it.
	result := reconcile.Apply(ctx, s.drivers, plan, reconcile.ApplyOptions{
		Parallelism: a.parallelism, Timeout: a.timeout, Drain: ctx.Done(),
		Emit: func(e reconcile.Event) {
			level := slog.LevelInfo
			if e.Phase == reconcile.Failed || e.Phase == reconcile.Refused {
				level = slog.LevelError
			}
			log.Log(ctx, level, string(e.Phase), "address", e.Address, "action", e.Action, "message", e.Message, "elapsed", e.Elapsed.Round(time.Millisecond))
		},
	})
	for _, o := range result.Outcomes {
		if o.Phase == reconcile.Done && o.Change.Action.Pending() {
			outcome.Changes[string(o.Change.Action)]++
		}
	}
	err = errorOf(result)
	outcome.Healthy = err == nil
	return outcome, err
}

// loadCommitted loads a commit's file; its problems are logged under the name it has in git.
func loadCommitted(log *slog.Logger, file, name string) (*spec.Stack, error) {
	stack, diagnostics := spec.Load(file)
	var problems []error
	for _, d := range diagnostics {
		d.File = name
		if d.Severity == spec.SeverityWarning {
			log.Warn(d.String())
			continue
		}
		problems = append(problems, errors.New(d.String()))
	}
	if stack == nil {
		return nil, daemon.InvalidSpec{Err: errors.Join(problems...)}
	}
	return stack, nil
}

// slug names a work folder after what is followed in it.
func slug(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
