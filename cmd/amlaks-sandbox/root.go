package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// folder is the --dir of every verb.
type folder struct{ dir string }

func root() *cobra.Command {
	command := &cobra.Command{
		Use:           "amlaks-sandbox",
		Short:         "An Azure of one's own on loopback, for demos and tests",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := &folder{}
	command.PersistentFlags().StringVar(&f.dir, "dir", "", "folder that holds all of the sandbox (required)")
	_ = command.MarkPersistentFlagRequired("dir") // the flag is there
	command.PersistentPreRunE = func(*cobra.Command, []string) (err error) {
		f.dir, err = filepath.Abs(f.dir)
		return err
	}
	command.AddCommand(up(f), down(f), serve(f), requests(f), fault(f), model(f), clusterVerb(f), repo(f), overlay(f), meddle(f), secret(f), quota(f), restrict(f))
	return command
}

// connect finds the sandbox that runs in the folder.
func (f *folder) connect(command *cobra.Command) (*sandbox.Client, error) {
	return sandbox.Connect(command.Context(), f.dir)
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }
