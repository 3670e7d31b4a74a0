package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func repo(f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "repo --dir DIR NAME",
		Short: "Make an empty git repository and print its URLs",
		Args:  cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			if err := client.Repository(command.Context(), args[0]); err != nil {
				return err
			}
			info, err := client.Info(command.Context())
			if err != nil {
				return err
			}
			for _, variable := range info.Environment {
				if variable.Name == "SANDBOX_GIT_HTTP" || variable.Name == "SANDBOX_GIT_SSH" {
					fmt.Fprintf(command.OutOrStdout(), "%s/%s.git\n", variable.Value, args[0])
				}
			}
			return nil
		},
	}
}
