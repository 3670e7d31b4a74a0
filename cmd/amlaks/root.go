package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/retry"
	"github.com/amlaks/amlaks/spec"
)

// version is set by the linker; a build from a checkout says so.
var version = "0.1.0-dev"

// stdio is the world outside: facts go to out, progress and diagnostics to err.
type stdio struct {
	in     io.Reader
	out    io.Writer
	err    io.Writer
	getenv func(string) string
	isTTY  bool // a person answers at in
	outTTY bool // a person reads out
	// errSize gives the size of the terminal that err is; nil: it is none.
	errSize func() (columns, rows int, err error)
}

func standardIO() stdio {
	in, out, err := int(os.Stdin.Fd()), int(os.Stdout.Fd()), int(os.Stderr.Fd())
	io := stdio{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv,
		isTTY: term.IsTerminal(in) && term.IsTerminal(err), outTTY: term.IsTerminal(out)}
	if term.IsTerminal(err) {
		io.errSize = func() (columns, rows int, sizeErr error) { return term.GetSize(err) }
	}
	return io
}

// app is one invocation: the flags that mean the same everywhere, and where to write.
type app struct {
	stdio
	screen      *screen // what stdio.err writes to
	colors      colors  // of out
	file        string
	output      string
	frontEnd    string
	auth        string
	timeout     time.Duration
	parallelism int
	lockTimeout time.Duration
	drain       time.Duration
	maxDeletes  int // -1: what the file says
	// requestTimeout bounds each request; see package retry.
	requestTimeout time.Duration
	// finish is the context of work that the first Ctrl-C lets finish; the second ends it.
	finish     context.Context
	estimate   estimate
	destroying bool // nothing is said of what is to go
	// silent: nothing is said of what is being read; the daemon has its log.
	silent bool
}

// run is the whole command; it gives the exit code.
func run(args []string, io stdio) int {
	ctx, finish, stop := interruptible()
	defer stop()
	screen := newScreen(io.err, io.errSize, io.getenv)
	io.err = screen
	a := &app{stdio: io, screen: screen, colors: wantsColors(io.outTTY, io.getenv), finish: finish, maxDeletes: -1}
	a.takeOver()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(io.in)
	root.SetOut(io.out)
	root.SetErr(io.err)
	err := root.ExecuteContext(ctx)
	a.report(err)
	return exitCode(err)
}

// takeOver lets client-go write through the screen what it would write to standard error
// itself, amid the live lines: its log, and the warnings that an API server sends.
func (a *app) takeOver() {
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(a.err, nil)))
	rest.SetDefaultWarningHandler(rest.NewWarningWriter(a.err, rest.WarningWriterOptions{Deduplicate: true}))
}

// interruptible gives a context that the first Ctrl-C ends, and one that the second does.
func interruptible() (first, second context.Context, stop func()) {
	first, cancelFirst := context.WithCancelCause(context.Background())
	second, cancelSecond := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for _, cancel := range []context.CancelCauseFunc{cancelFirst, cancelSecond} {
			if _, ok := <-signals; ok {
				cancel(errInterrupted)
			}
		}
	}()
	return first, second, func() {
		signal.Stop(signals)
		close(signals)
		cancelFirst(nil)
		cancelSecond(nil)
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "amlaks",
		Short: "Run Azure ML models on AKS from one committed file",
		Long: `amlaks makes AKS clusters, builds scoring images without Docker and runs models as
scoring services, all from amlaks.yaml: plan shows what would change, apply does it,
and the daemon keeps the world equal to the file in git.

Exit codes: 0 done or nothing to do, 1 error, 2 changes pending (diff, plan
--detailed-exitcode), 3 the saved plan is stale, 4 applied in part, 5 refused, 6 not healthy in time,
7 invalid file, 130 interrupted.

What goes on is shown at a terminal by lines that are redrawn, elsewhere (and with CI set,
or TERM=dumb) by a line on each change. NO_COLOR switches colours off.`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.file, "file", "f", "amlaks.yaml", "the stack's file")
	flags.StringVarP(&a.output, "output", "o", "text", "text or json")
	flags.StringVar(&a.frontEnd, "front-end", "", "the amlaks-fe binary to put into clusters (default: the one beside amlaks)")
	flags.StringVar(&a.auth, "auth", "", "the identity to sign in to Azure with: "+azure.AuthAuto+", "+strings.Join(azure.Methods(), ", ")+" (default $"+azure.AuthVariable+", or the first that is set up)")
	flags.DurationVar(&a.requestTimeout, "request-timeout", retry.DefaultBudget,
		"bound on each request to Azure, a registry or a cluster, its retries included; waits they ask for come on top")
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		cmd.SetContext(a.patient(cmd.Context()))
		a.finish = a.patient(a.finish)
		if a.output != "text" && a.output != "json" {
			return usageError{fmt.Errorf("-o %s: it is text or json", a.output)}
		}
		return nil
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(a.initCommand(), a.validateCommand(), a.planCommand(), a.diffCommand(), a.showCommand(), a.applyCommand(), a.destroyCommand(),
		a.statusCommand(), a.modelsCommand(), a.scoreCommand(), a.keysCommand(), a.tokenCommand(), a.logsCommand(), a.daemonCommand(),
		a.schemaCommand(), a.versionCommand())
	return root
}

// patient bounds the requests made under a context and says on stderr what they wait for,
// until somebody who knows more about it takes that over. Many requests meet the same trouble
// at a time, and it is said once.
func (a *app) patient(ctx context.Context) context.Context {
	var mu sync.Mutex
	last := ""
	return retry.WithSay(retry.WithBudget(ctx, a.requestTimeout), func(message string) {
		mu.Lock()
		defer mu.Unlock()
		if message != last {
			fmt.Fprintf(a.err, "amlaks: %s\n", message)
		}
		last = message
	})
}

// applyFlags are those of the verbs that change something.
func (a *app) applyFlags(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&a.timeout, "timeout", reconcile.DefaultTimeout, "bound on each change, its waiting included")
	cmd.Flags().IntVar(&a.parallelism, "parallelism", reconcile.DefaultParallelism, "how many changes run at a time")
	cmd.Flags().DurationVar(&a.lockTimeout, "lock-timeout", defaultLockTimeout, "how long to wait for another run over the stack")
	cmd.Flags().DurationVar(&a.drain, "drain-timeout", defaultDrain, "how long what runs may go on after the first Ctrl-C")
}

var errInterrupted error = &reconcile.Failure{Reason: reconcile.ReasonInterrupted, Err: errors.New("interrupted")}

// usageError is a call whose words are off.
type usageError struct{ error }

// exitError is an end with a code of its own and, maybe, nothing more to say.
type exitError struct {
	code int
	err  error // nil: everything has been said
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

// The exit codes. They are stable; any other that is not 0 means failure.
const (
	exitOK          = 0
	exitError1      = 1
	exitPending     = 2
	exitStale       = 3
	exitPartial     = 4
	exitRefused     = 5
	exitNotHealthy  = 6
	exitInvalid     = 7
	exitInterrupted = 130
)

// exitCode is the one place where an error becomes a code.
func exitCode(err error) int {
	var own exitError
	var diagnostics spec.Diagnostics
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &diagnostics):
		return exitInvalid
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	}
	switch reconcile.ReasonOf(err) {
	case reconcile.ReasonOwned, reconcile.ReasonProtected, reconcile.ReasonImmutable, reconcile.ReasonTooManyDeletes:
		return exitRefused
	case reconcile.ReasonStale:
		return exitStale
	case reconcile.ReasonInvalidPlan:
		return exitInvalid
	case reconcile.ReasonInterrupted:
		return exitInterrupted
	}
	return exitError1
}

// advice is what follows an error: its reason, a word to search for, and what to do.
func advice(err error) string {
	text := ""
	if reason := reconcile.ReasonOf(err); reason != "" {
		text = "\n  reason: " + string(reason)
	}
	if hint := reconcile.HintOf(err); hint != "" {
		text += "\n  hint: " + hint
	}
	return text
}

// report prints what ended the command, and the hint if there is one.
func (a *app) report(err error) {
	var own exitError
	if err == nil || errors.As(err, &own) && own.err == nil {
		return
	}
	var diagnostics spec.Diagnostics
	if errors.As(err, &diagnostics) {
		return // validate has printed them
	}
	text := err.Error()
	if more := advice(err); !strings.Contains(text, more) { // each of several errors has its own
		text += more
	}
	fmt.Fprintf(a.err, "amlaks: %s\n", text)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintln(a.err, "  hint: amlaks --help shows the verbs, amlaks VERB --help its flags and an example")
	}
}
