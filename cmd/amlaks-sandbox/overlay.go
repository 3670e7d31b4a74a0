package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func overlay(f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "overlay --dir DIR RESOURCE-ID JSON",
		Short: "Write properties over a resource, as another client with a newer API would",
		Example: `  amlaks-sandbox overlay --dir DIR /subscriptions/.../managedClusters/prod \
      '{"properties": {"hostedSystemProfile": {"enabled": true}}}'`,
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			var merge map[string]any
			if err := json.Unmarshal([]byte(args[1]), &merge); err != nil {
				return fmt.Errorf("read the JSON: %w", err)
			}
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			return client.Overlay(command.Context(), args[0], merge)
		},
	}
}
