package main

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/kube"
	"github.com/amlaks/amlaks/spec"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say how the services are doing, and where they answer",
		Long: `status reads the clusters and prints a line for each version of each service. It exits 6
when one is not Healthy. Of a front end with ssl it tells the certificate and when that
expires, and warns from 30 days before.`,
		Example: `  amlaks status
  amlaks status -o json | jq '.services[] | select(.state != "Healthy")'
  amlaks status -o json | jq '.frontEnds[].certificate.notAfter'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context()) },
	}
}

// serviceStatus is a line of status.
type serviceStatus struct {
	Service string `json:"service"`
	Cluster string `json:"cluster"`
	kube.VersionStatus
	ScoringURI string `json:"scoringUri,omitempty"`
}

func (a *app) status(ctx context.Context) error {
	stack, err := a.load(a.file)
	if err != nil {
		return err
	}
	connection, err := a.connect(stack.Workspace, true)
	if err != nil {
		return err
	}
	driver, err := azure.New(connection, stack, azure.Options{})
	if err != nil {
		return err
	}
	lines, frontEnds := []serviceStatus{}, []frontEndStatus{}
	healthy := true
	for _, cluster := range stack.Clusters {
		more, endpoint, err := clusterStatus(ctx, driver, stack, cluster)
		if err != nil {
			return fmt.Errorf("cluster %s: %w", cluster.Name, err)
		}
		lines = append(lines, more...)
		frontEnds = append(frontEnds, statusOf(cluster.Name, endpoint, time.Now()))
	}
	for _, line := range lines {
		healthy = healthy && line.State == kube.Healthy
	}
	if a.output == "json" {
		if err := printJSON(a.out, map[string]any{"stack": stack.Name, "services": lines, "frontEnds": frontEnds}); err != nil {
			return err
		}
	} else {
		table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SERVICE\tVERSION\tCLUSTER\tSTATE\tREADY\tSCORING URI")
		for _, l := range lines {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d/%d\t%s\n", l.Service, l.Version, l.Cluster, l.State, l.Ready, l.Desired, l.ScoringURI)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		a.printCertificates(frontEnds)
		for _, l := range lines {
			if l.Problem != "" {
				fmt.Fprintf(a.err, "%s (%s): %s\n", l.Service, l.Version, l.Problem)
			}
		}
	}
	if !healthy {
		return exitError{code: exitNotHealthy}
	}
	return nil
}

func clusterStatus(ctx context.Context, driver *azure.Driver, stack *spec.Stack, cluster spec.Cluster) ([]serviceStatus, kube.Endpoint, error) {
	kubeconfig, err := driver.Kubeconfig(ctx, cluster.Name)
	absent := reconcile.ReasonOf(err) == reconcile.ReasonNotFound
	var endpoint kube.Endpoint
	if err != nil && !absent {
		return nil, endpoint, err
	}
	var opened *kube.Cluster
	if !absent {
		if opened, err = kube.Open(kubeconfig, stack.Name, true); err != nil {
			return nil, endpoint, err
		}
		if endpoint, err = opened.Endpoint(ctx); err != nil {
			return nil, endpoint, err
		}
	}
	var lines []serviceStatus
	for _, service := range stack.Services {
		if service.Cluster != cluster.Name {
			continue
		}
		versions := []kube.VersionStatus{{Version: spec.DefaultVersion, State: kube.Absent, Problem: "the cluster is not there"}}
		if !absent {
			if versions, err = opened.Status(ctx, service); err != nil {
				return nil, endpoint, err
			}
		}
		for _, v := range versions {
			line := serviceStatus{Service: service.Name, Cluster: cluster.Name, VersionStatus: v}
			if endpoint.Address != "" && v.State != kube.Absent {
				line.ScoringURI = scoringURI(endpoint.Address, service.Name)
			}
			lines = append(lines, line)
		}
	}
	return lines, endpoint, nil
}
