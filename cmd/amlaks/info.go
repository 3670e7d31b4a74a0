package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/schema"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  amlaks version -o json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				return printJSON(a.out, map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
			}
			fmt.Fprintln(a.out, "amlaks "+version)
			return nil
		},
	}
}

func (a *app) schemaCommand() *cobra.Command {
	texts := map[string]func() []byte{"spec": schema.Amlaks, "plan": schema.Plan, "events": schema.Events}
	return &cobra.Command{
		Use:   "schema [spec|plan|events]",
		Short: "Print the JSON schema of amlaks.yaml, for editors, of a plan, or of events",
		Example: `  amlaks schema > amlaks.schema.json
  # then, as the first line of amlaks.yaml:
  # yaml-language-server: $schema=./amlaks.schema.json
  amlaks schema plan
  amlaks schema events   # each line of amlaks apply -o json`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: slices.Sorted(maps.Keys(texts)),
		RunE: func(_ *cobra.Command, args []string) error {
			text := texts["spec"]
			if len(args) > 0 {
				text = texts[args[0]]
			}
			_, err := a.out.Write(text())
			return err
		},
	}
}

// starter is the file that init writes: the least that is valid, and where to go on.
const starter = `# Made by amlaks init. Every field is explained by the schema: amlaks schema.
apiVersion: amlaks.io/v1
name: %s
workspace:
  subscriptionId: 00000000-0000-0000-0000-000000000000   # az account show --query id
  resourceGroup: my-resource-group
  name: my-workspace
clusters:
  - name: dev-cluster
    purpose: DevTest
    vmSize: Standard_D4ds_v5
    agentCount: 1
services: []   # amlaks validate names each field that a service needs
`

func (a *app) initCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "init",
		Short:   "Write a first amlaks.yaml",
		Example: "  amlaks init --name churn",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			file, err := os.OpenFile(a.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
			if errors.Is(err, fs.ErrExist) {
				return exitError{code: exitRefused, err: fmt.Errorf("%s is there already; it was left alone", a.file)}
			}
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(file, starter, name); err != nil {
				return errors.Join(err, file.Close())
			}
			if err := file.Close(); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "%s: written; fill in workspace, then amlaks validate and amlaks plan\n", a.file)
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "my-stack", "the stack's name")
	return cmd
}
