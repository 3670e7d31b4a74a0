package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// serveFlags are what `up` hands on to `serve`.
type serveFlags struct {
	kubeconfig, source string
	noWorkspace        bool
}

func (s *serveFlags) add(command *cobra.Command) {
	command.Flags().StringVar(&s.kubeconfig, "kubeconfig", "", "answer with this kubeconfig for every AKS cluster; start no control plane")
	command.Flags().StringVar(&s.source, "controlplane-source", "", "folder of the controlplane module (default: found from the working directory)")
	command.Flags().BoolVar(&s.noWorkspace, "no-workspace", false, "begin with an empty resource group: workspace.create makes what is to be in it")
}

func serve(f *folder) *cobra.Command {
	var flags serveFlags
	command := &cobra.Command{
		Use:    "serve --dir DIR",
		Short:  "Run the sandbox in the foreground (what up starts)",
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(command *cobra.Command, _ []string) error {
			out := command.ErrOrStderr()
			options := sandbox.Options{
				Dir: f.dir, ControlplaneSource: flags.source, Progress: out, NoWorkspace: flags.noWorkspace,
				Logf: func(format string, args ...any) {
					fmt.Fprintf(out, "%s %s\n", time.Now().UTC().Format("15:04:05"), fmt.Sprintf(format, args...))
				},
			}
			if flags.kubeconfig != "" {
				content, err := os.ReadFile(flags.kubeconfig)
				if err != nil {
					return err
				}
				options.Kubeconfig = content
			}
			s, err := sandbox.Start(command.Context(), options)
			if err != nil {
				return err
			}
			options.Logf("ready")
			<-command.Context().Done()
			s.Close()
			options.Logf("ended")
			return nil
		},
	}
	flags.add(command)
	return command
}
