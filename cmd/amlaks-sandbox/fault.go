package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func fault(f *folder) *cobra.Command {
	var wanted sandbox.Fault
	var retryAfter, stall string
	var clear, list bool
	command := &cobra.Command{
		Use:   "fault --dir DIR",
		Short: "Make the next matching requests fail",
		Example: `  amlaks-sandbox fault --dir DIR --method PUT --path managedClusters --status 429 --retry-after 2
  amlaks-sandbox fault --dir DIR --method PUT --path agentPools --operation failed:SkuNotAvailable
  amlaks-sandbox fault --dir DIR --service registry --method PUT --reset after --count 2
  amlaks-sandbox fault --dir DIR --service kube --method PATCH --path deployments --status 403
  amlaks-sandbox fault --dir DIR --service git --method SSH --stall 5s`,
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if clear && list {
				return errors.New("--clear or --list, not both")
			}
			var err error
			if wanted.RetryAfter, err = seconds(retryAfter); err != nil {
				return fmt.Errorf("--retry-after: %w", err)
			}
			if wanted.Stall, err = seconds(stall); err != nil {
				return fmt.Errorf("--stall: %w", err)
			}
			client, err := f.connect(command)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(command.OutOrStdout())
			switch {
			case clear:
				return client.ClearFaults(command.Context())
			case list:
				faults, err := client.Faults(command.Context())
				for _, waiting := range faults {
					err = errors.Join(err, encoder.Encode(waiting))
				}
				return err
			}
			made, err := client.Fault(command.Context(), wanted)
			if err != nil {
				return err
			}
			return encoder.Encode(made)
		},
	}
	flags := command.Flags()
	flags.StringVar(&wanted.Service, "service", "arm", "arm, registry, blob, git, kube or vault")
	flags.StringVar(&wanted.Method, "method", "", "HTTP method, or SSH for git over SSH (default: any)")
	flags.StringVar(&wanted.Path, "path", "", "regular expression for the path, any case (default: any)")
	flags.IntVar(&wanted.Count, "count", 1, "how many requests")
	flags.IntVar(&wanted.Status, "status", 0, "answer with this HTTP status")
	flags.StringVar(&retryAfter, "retry-after", "", "with --status: seconds")
	flags.StringVar(&wanted.Code, "code", "", "with --status: the error code")
	flags.StringVar(&wanted.Reset, "reset", "", "reset the connection: before or after the request takes effect, or in the middle of an upload to the registry or of a blob that is read")
	flags.StringVar(&stall, "stall", "", "answer this much later, like 5s")
	flags.StringVar(&wanted.Operation, "operation", "", "how the long-running operation ends that it starts: failed, failed:CODE or never")
	flags.BoolVar(&clear, "clear", false, "take all faults back; operations that were never to end go on")
	flags.BoolVar(&list, "list", false, "print the faults that still wait for a request")
	return command
}

// seconds reads a duration, or a number of seconds.
func seconds(text string) (sandbox.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if n, err := strconv.Atoi(text); err == nil && n >= 0 {
		return sandbox.Duration(time.Duration(n) * time.Second), nil
	}
	d, err := time.ParseDuration(text)
	return sandbox.Duration(d), err
}
