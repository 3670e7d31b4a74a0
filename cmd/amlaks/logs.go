package main

import (
	"github.com/spf13/cobra"
)

// defaultLogLines is v1's num_lines.
const defaultLogLines = 5000

func (a *app) logsCommand() *cobra.Command {
	var lines int64
	var follow bool
	cmd := &cobra.Command{
		Use:     "logs SERVICE",
		Short:   "Print the logs of every replica of a service",
		Example: `  amlaks logs churn --lines 100 --follow`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, cluster, err := a.service(cmd.Context(), args[0], true)
			if err != nil {
				return err
			}
			return cluster.Logs(cmd.Context(), a.out, args[0], lines, follow)
		},
	}
	cmd.Flags().Int64VarP(&lines, "lines", "l", defaultLogLines, "how many of the last lines of each replica")
	cmd.Flags().BoolVar(&follow, "follow", false, "go on as they are written")
	return cmd
}
