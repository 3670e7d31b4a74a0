package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/spec"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the file, offline, and say everything that is wrong with it",
		Example: `  amlaks validate
  amlaks validate -f envs/prod/amlaks.yaml -o json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.validate() },
	}
}

func (a *app) validate() error {
	stack, diagnostics := spec.Load(a.file)
	if a.output == "json" {
		if diagnostics == nil {
			diagnostics = spec.Diagnostics{}
		}
		err := printJSON(a.out, struct {
			Valid       bool             `json:"valid"`
			Diagnostics spec.Diagnostics `json:"diagnostics"`
		}{stack != nil, diagnostics})
		if err != nil {
			return err
		}
	} else {
		if err := diagnostics.Format(a.err); err != nil {
			return err
		}
	}
	if stack == nil {
		return diagnostics
	}
	if a.output == "text" {
		fmt.Fprintf(a.out, "%s: valid (stack %s, %s, %s)\n", a.file, stack.Name, count(len(stack.Clusters), "cluster"), count(len(stack.Services), "service"))
	}
	return nil
}

// count is a number of things, in words.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
