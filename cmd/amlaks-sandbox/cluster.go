package main

import (
	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func clusterVerb(f *folder) *cobra.Command {
	var wanted sandbox.ClusterRequest
	command := &cobra.Command{
		Use:   "cluster --dir DIR --name NAME",
		Short: "Make an AKS cluster as by hand, owned by no stack, and wait until it is there",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			return client.CreateCluster(command.Context(), wanted)
		},
	}
	command.Flags().StringVar(&wanted.Name, "name", "", "its name (required)")
	command.Flags().StringVar(&wanted.ResourceGroup, "resource-group", sandbox.ResourceGroup, "its resource group")
	command.Flags().StringVar(&wanted.VMSize, "vm-size", "Standard_D4ds_v5", "size of its nodes")
	command.Flags().IntVar(&wanted.AgentCount, "agent-count", 1, "number of its nodes")
	_ = command.MarkFlagRequired("name") // the flag is there
	return command
}
