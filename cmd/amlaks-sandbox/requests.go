package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

func requests(f *folder) *cobra.Command {
	var service string
	var clear bool
	command := &cobra.Command{
		Use:   "requests --dir DIR",
		Short: "Print the requests seen as JSON lines, oldest first, without secrets",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			if clear {
				return client.ClearRequests(command.Context())
			}
			switch service {
			case "arm", "registry", "blob", "git", "kube", "vault", "all":
			default:
				return fmt.Errorf("--service %s: want arm, registry, blob, git, kube, vault or all", service)
			}
			seen, err := client.Requests(command.Context(), service)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(command.OutOrStdout())
			encoder.SetEscapeHTML(false)
			for _, request := range seen {
				if err := encoder.Encode(request); err != nil {
					return err
				}
			}
			return nil
		},
	}
	command.Flags().StringVar(&service, "service", "arm", "arm, registry, blob, git, kube, vault or all")
	command.Flags().BoolVar(&clear, "clear", false, "forget the requests seen, of all services")
	return command
}
