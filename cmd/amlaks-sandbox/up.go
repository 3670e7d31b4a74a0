package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func up(f *folder) *cobra.Command {
	var serve serveFlags
	var models []string
	command := &cobra.Command{
		Use:   "up --dir DIR",
		Short: "Start the sandbox, or start it again, and return when it is ready",
		Long: `Start the sandbox of a folder and return when it is ready. What is in the folder is kept:
after a crash or a kill -9, up brings back the same clusters at the same addresses.
DIR/env holds the variables by which amlaks finds it:

    . DIR/env && amlaks plan

The first up builds Kubernetes from source, which takes minutes; see --kubeconfig.`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx := command.Context()
			parsed := make([]modelFlag, len(models))
			for i, text := range models {
				var err error
				if parsed[i], err = parseModel(text); err != nil {
					return err
				}
			}
			client, err := f.connect(command)
			if err == nil {
				fmt.Fprintln(command.ErrOrStderr(), "the sandbox is up already")
			} else if client, err = f.launch(ctx, serve, command.ErrOrStderr()); err != nil {
				return err
			}
			if _, err := awaitReady(ctx, client, f, command.ErrOrStderr(), nil); err != nil {
				return err
			}
			for _, model := range parsed {
				if err := client.RegisterModel(ctx, model.name, model.version, model.path); err != nil {
					return err
				}
			}
			info, err := client.Info(ctx)
			if err != nil {
				return err
			}
			for _, variable := range info.Environment {
				if variable.Name != "AMLAKS_ARM_TOKEN" {
					fmt.Fprintf(command.OutOrStdout(), "%-22s %s\n", variable.Name, variable.Value)
				}
			}
			fmt.Fprintf(command.OutOrStdout(), "\n. %s\n", f.path("env"))
			return nil
		},
	}
	serve.add(command)
	command.Flags().StringArrayVar(&models, "model", nil, "register a model: NAME:VERSION=PATH (may be repeated)")
	return command
}

type modelFlag struct{ name, version, path string }

func parseModel(text string) (modelFlag, error) {
	asset, path, ok := strings.Cut(text, "=")
	name, version, also := strings.Cut(asset, ":")
	if !ok || !also || path == "" {
		return modelFlag{}, fmt.Errorf("--model %s: want NAME:VERSION=PATH", text)
	}
	return modelFlag{name, version, path}, nil
}

// errEnded is a sandbox that was running and is not any more.
var errEnded = errors.New("the sandbox has ended")

// launch starts `serve` in a session of its own and waits for it to answer.
func (f *folder) launch(ctx context.Context, flags serveFlags, progress io.Writer) (*sandbox.Client, error) {
	if p, running := f.recorded(); running {
		// It runs and does not answer: still starting, for another `up` perhaps, or on its
		// last breath, as one that was killed this moment.
		client, err := awaitConnect(ctx, f, progress, 0, p, nil)
		if !errors.Is(err, errEnded) {
			return client, err
		}
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(f.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	info, err := log.Stat()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"serve", "--dir", f.dir}
	if flags.kubeconfig != "" {
		args = append(args, "--kubeconfig", absolute(flags.kubeconfig))
	}
	if flags.source != "" {
		args = append(args, "--controlplane-source", absolute(flags.source))
	}
	if flags.noWorkspace {
		args = append(args, "--no-workspace")
	}
	child := exec.Command(self, args...)
	child.Args[0] = os.Args[0] // a program of several names goes by the one it was called by
	child.Stdout, child.Stderr = log, log
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	p, err := identify(child.Process.Pid)
	if err == nil {
		err = f.record(p)
	}
	if err != nil {
		return nil, errors.Join(err, child.Process.Kill())
	}
	return awaitConnect(ctx, f, progress, info.Size(), p, ended)
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// awaitConnect shows the log from an offset on until the sandbox answers or has ended.
func awaitConnect(ctx context.Context, f *folder, progress io.Writer, offset int64, p process, ended <-chan error) (*sandbox.Client, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		offset = f.show(progress, offset)
		client, err := sandbox.Connect(ctx, f.dir)
		if err == nil {
			return awaitReady(ctx, client, f, progress, &offset)
		}
		select {
		case err := <-ended:
			f.show(progress, offset)
			return nil, fmt.Errorf("the sandbox did not start (%v): see %s", err, f.path("log"))
		case <-ctx.Done():
			return nil, fmt.Errorf("given up; `down` ends what was started: %w", ctx.Err())
		case <-ticker.C:
			if !p.alive() && ended == nil { // of a child's end the channel tells more
				f.show(progress, offset)
				return nil, fmt.Errorf("%w: see %s", errEnded, f.path("log"))
			}
		}
	}
}

// awaitReady waits until the clusters that were there before run again.
func awaitReady(ctx context.Context, client *sandbox.Client, f *folder, progress io.Writer, offset *int64) (*sandbox.Client, error) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if offset != nil {
			*offset = f.show(progress, *offset)
		}
		info, err := client.Info(ctx)
		if err != nil {
			return nil, fmt.Errorf("the sandbox has ended: see %s: %w", f.path("log"), err)
		}
		if info.Ready {
			return client, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
}

// show copies what is new in the log and gives how far it is.
func (f *folder) show(progress io.Writer, offset int64) int64 {
	log, err := os.Open(f.path("log"))
	if err != nil {
		return offset
	}
	defer log.Close()
	if _, err := log.Seek(offset, io.SeekStart); err != nil {
		return offset
	}
	n, _ := io.Copy(progress, io.LimitReader(log, 1<<20)) // progress only: the log has it all
	return offset + n
}
