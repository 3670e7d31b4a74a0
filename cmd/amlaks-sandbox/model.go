package main

import (
	"github.com/spf13/cobra"
)

func model(f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "model --dir DIR NAME:VERSION PATH",
		Short: "Register a file or folder as a model of the workspace",
		Args:  cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			parsed, err := parseModel(args[0] + "=" + args[1])
			if err != nil {
				return err
			}
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			return client.RegisterModel(command.Context(), parsed.name, parsed.version, parsed.path)
		},
	}
}
