package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
)

func quota(f *folder) *cobra.Command {
	return &cobra.Command{
		Use:   "quota --dir DIR NAME LIMIT",
		Short: "Set how many vCPU the subscription may have: of a VM family, of all (cores), of spot (lowPriorityCores)",
		Example: `  amlaks-sandbox quota --dir DIR standardDDSv5Family 12
  amlaks-sandbox quota --dir DIR cores 100`,
		Args: cobra.ExactArgs(2),
		RunE: func(command *cobra.Command, args []string) error {
			limit, err := strconv.Atoi(args[1])
			if err != nil {
				return fmt.Errorf("the limit %q is no number", args[1])
			}
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			return client.SetQuota(command.Context(), args[0], limit)
		},
	}
}

func restrict(f *folder) *cobra.Command {
	return &cobra.Command{
		Use:     "restrict --dir DIR VM-SIZE [ZONE...]",
		Short:   "Take a VM size from the subscription: in these zones, or as a whole",
		Example: "  amlaks-sandbox restrict --dir DIR Standard_NC4as_T4_v3",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			return client.RestrictSize(command.Context(), args[0], args[1:]...)
		},
	}
}
