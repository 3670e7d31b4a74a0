package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
	"github.com/amlaks/amlaks/spec"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Read or regenerate a service's keys"}
	cmd.AddCommand(&cobra.Command{
		Use:     "get SERVICE",
		Short:   "Print the primary and the secondary key",
		Example: `  curl -H "Authorization: Bearer $(amlaks keys get churn -o json | jq -r .primaryKey)" ...`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.getKeys(cmd.Context(), args[0]) },
	})
	var secondary bool
	regenerate := &cobra.Command{
		Use:   "regenerate SERVICE",
		Short: "Replace the primary key, or with --secondary the other one",
		Long: `Two keys are valid at a time: move the clients to one, regenerate the other. The front
end takes the new key within a second; the old one is refused from then on.`,
		Example: `  amlaks keys regenerate churn --secondary`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			which := routes.PrimaryKey
			if secondary {
				which = routes.SecondaryKey
			}
			return a.regenerateKey(cmd.Context(), args[0], which)
		},
	}
	regenerate.Flags().BoolVar(&secondary, "secondary", false, "the secondary key")
	cmd.AddCommand(regenerate)
	return cmd
}

func (a *app) getKeys(ctx context.Context, name string) error {
	service, cluster, err := a.service(ctx, name, true)
	if err != nil {
		return err
	}
	if service.AuthMode != spec.AuthKey {
		return usageError{fmt.Errorf("service %s has authMode %s: it has no keys", name, service.AuthMode)}
	}
	keys, err := cluster.Keys(ctx, name)
	if err != nil {
		return err
	}
	return a.printKeys(keys)
}

func (a *app) regenerateKey(ctx context.Context, name, which string) error {
	service, cluster, err := a.service(ctx, name, false)
	if err != nil {
		return err
	}
	if service.AuthMode != spec.AuthKey {
		return usageError{fmt.Errorf("service %s has authMode %s: it has no keys", name, service.AuthMode)}
	}
	keys, err := cluster.RegenerateKey(ctx, name, which)
	if err != nil {
		return err
	}
	return a.printKeys(keys)
}

func (a *app) printKeys(keys kube.Keys) error {
	if a.output == "json" {
		return printJSON(a.out, keys)
	}
	fmt.Fprintf(a.out, "primary    %s\nsecondary  %s\n", keys.Primary, keys.Secondary)
	return nil
}

func (a *app) tokenCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "token SERVICE",
		Short: "Print an access token for a service with authMode token",
		Long: `token asks Kubernetes for a token that only this service takes. It lives for 12 hours;
-o json also tells when to ask for the next one, as v1's get_access_token did.`,
		Example: `  curl -H "Authorization: Bearer $(amlaks token churn)" ...`,
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.token(cmd.Context(), args[0]) },
	}
}

func (a *app) token(ctx context.Context, name string) error {
	service, cluster, err := a.service(ctx, name, false)
	if err != nil {
		return err
	}
	if service.AuthMode != spec.AuthToken {
		return usageError{fmt.Errorf("service %s has authMode %s: it takes no tokens", name, service.AuthMode)}
	}
	token, err := cluster.Token(ctx, name)
	if err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.out, token)
	}
	fmt.Fprintln(a.out, token.AccessToken)
	return nil
}
