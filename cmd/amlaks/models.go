package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/model"
	"github.com/amlaks/amlaks/spec"
)

// modelLookups are made at a time.
const modelLookups = 4

func (a *app) modelsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "models [NAME]",
		Short: "List the workspace's registered models, and which services use which version",
		Long: `models reads the workspace and prints a line for each registered model: its latest version,
which is what az ml means by @latest, and what of the file uses it. With NAME it prints a line
for each version of that model. It changes nothing and reads no model's content.

A file that is not valid because it says latest, or for another reason, will do, as long as it
says which workspace is meant.`,
		Example: `  amlaks models
  amlaks models churn
  amlaks models -o json | jq -r '.models[] | select(.name == "churn").latest'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.models(cmd.Context(), strings.Join(args, ""))
		},
	}
}

// registeredModel is a line of models.
type registeredModel struct {
	Name     string            `json:"name"`
	Registry string            `json:"registry,omitempty"` // the Azure ML registry it is of; none: the workspace
	Latest   string            `json:"latest,omitempty"`
	Archived bool              `json:"archived,omitempty"`
	Versions []registerVersion `json:"versions,omitempty"` // of NAME, and of what the file uses; the newest first
	UsedBy   []modelUse        `json:"usedBy,omitempty"`
}

type registerVersion struct {
	Version   string    `json:"version"`
	Type      string    `json:"type,omitempty"`
	Stage     string    `json:"stage,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Archived  bool      `json:"archived,omitempty"`
	URI       string    `json:"uri"`
	Datastore string    `json:"datastore,omitempty"`
	Path      string    `json:"path,omitempty"`
}

// modelUse is a version of a service that uses a version of the model.
type modelUse struct {
	Service        string `json:"service"`
	ServiceVersion string `json:"serviceVersion"`
	Version        string `json:"version"` // as the file says it
	// Newer is the latest version, if another one is used.
	Newer string `json:"newer,omitempty"`
	// NotRegistered: there is no such version.
	NotRegistered bool `json:"notRegistered,omitempty"`
}

// latestVersion is what some write where a version should be; the file's rules refuse it.
const latestVersion = "latest"

// modelOptions are those of a client of the workspace's models.
func modelOptions(w spec.Workspace) model.Options {
	return model.Options{
		SubscriptionID: w.SubscriptionID, ResourceGroup: w.ResourceGroup, Workspace: w.Name, AllowAccountKeys: w.AllowAccountKeys,
	}
}

func (a *app) models(ctx context.Context, name string) error {
	workspace, references, err := a.references()
	if err != nil {
		return err
	}
	connection, err := a.connect(*workspace, true)
	if err != nil {
		return err
	}
	client, err := model.New(connection.Credential, connection.Options, modelOptions(*workspace))
	if err != nil {
		return err
	}
	var models []registeredModel
	if name != "" {
		models = []registeredModel{{Name: name}}
		references = slices.DeleteFunc(references, func(r spec.Reference) bool { return r.Model.Name != name || r.Model.Registry != "" })
	} else {
		found, err := client.List(ctx)
		if err != nil {
			return err
		}
		for _, m := range found {
			models = append(models, registeredModel{Name: m.Name, Latest: m.Latest, Archived: m.Archived})
		}
	}
	models = used(models, references)
	if err := lookUp(ctx, client, models, name); err != nil {
		return err
	}
	if a.output == "json" {
		return printJSON(a.out, map[string]any{"workspace": workspace.Name, "models": append([]registeredModel{}, models...)})
	}
	if name != "" {
		return a.printVersions(models[0])
	}
	return a.printModels(models)
}

// references are the file's, valid or not.
func (a *app) references() (*spec.Workspace, []spec.Reference, error) {
	stack, err := a.load(a.file)
	if err == nil {
		return &stack.Workspace, stack.References(), nil
	}
	if diagnostics := (spec.Diagnostics)(nil); !errors.As(err, &diagnostics) {
		return nil, nil, err
	}
	workspace, references, loose := spec.LooseReferences(a.file)
	if loose != nil {
		return nil, nil, err // of which all has been printed
	}
	fmt.Fprintf(a.err, "amlaks: %s is not valid; what it says of models is looked up all the same\n", a.file)
	return workspace, references, nil
}

// used notes who uses which version, and adds what is used and not listed.
func used(models []registeredModel, references []spec.Reference) []registeredModel {
	for _, r := range references {
		i := slices.IndexFunc(models, func(m registeredModel) bool { return m.Name == r.Model.Name && m.Registry == r.Model.Registry })
		if i < 0 {
			models = append(models, registeredModel{Name: r.Model.Name, Registry: r.Model.Registry})
			i = len(models) - 1
		}
		models[i].UsedBy = append(models[i].UsedBy, modelUse{Service: r.Service, ServiceVersion: r.Version, Version: r.Model.Version})
	}
	return models
}

// lookUp completes the model that was asked for, and those that the file uses.
func lookUp(ctx context.Context, client *model.Client, models []registeredModel, name string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(modelLookups)
	for i := range models {
		m := &models[i]
		if m.Name != name && len(m.UsedBy) == 0 {
			continue
		}
		group.Go(func() (err error) {
			if m.Registry != "" {
				m.Latest, err = client.LatestInRegistry(ctx, m.Registry, m.Name)
			} else {
				err = m.versions(ctx, client)
			}
			if reconcile.ReasonOf(err) == reconcile.ReasonNotFound && m.Name != name {
				err = nil // the file's mistake is a fact of the list
			}
			if err != nil {
				return err
			}
			m.compare()
			return nil
		})
	}
	return group.Wait()
}

func (m *registeredModel) versions(ctx context.Context, client *model.Client) error {
	found, err := client.Versions(ctx, m.Name)
	if err != nil {
		return err
	}
	for _, v := range found {
		m.Versions = append(m.Versions, registerVersion{
			Version: v.Version, Type: v.Type, Stage: v.Stage, Created: v.Created, Archived: v.Archived,
			URI: v.URI, Datastore: v.Datastore, Path: v.Path,
		})
		if m.Latest == "" && !v.Archived {
			m.Latest = v.Version
		}
	}
	return nil
}

// compare says of each use whether what is used exists, and is the latest.
func (m *registeredModel) compare() {
	for i := range m.UsedBy {
		use := &m.UsedBy[i]
		known := slices.ContainsFunc(m.Versions, func(v registerVersion) bool { return v.Version == use.Version })
		switch {
		case use.Version == latestVersion:
			use.Newer = m.Latest
		case m.Registry == "" && !known, m.Registry != "" && m.Latest == "":
			use.NotRegistered = true
		case use.Version != m.Latest:
			use.Newer = m.Latest
		}
	}
}

func (u modelUse) String() string {
	text := u.Service
	if u.ServiceVersion != spec.DefaultVersion {
		text += "/" + u.ServiceVersion
	}
	text += " " + u.Version
	switch {
	case u.NotRegistered:
		text += " (not registered)"
	case u.Version == latestVersion && u.Newer != "":
		text += " (that is " + u.Newer + ")"
	case u.Newer != "":
		text += " (" + u.Newer + " is newer)"
	}
	return text
}

func usesOf(uses []modelUse) string {
	texts := make([]string, 0, len(uses))
	for _, u := range uses {
		texts = append(texts, u.String())
	}
	return oneLine(strings.Join(texts, ", "))
}

func (a *app) printModels(models []registeredModel) error {
	if len(models) == 0 {
		fmt.Fprintln(a.out, "the workspace has no registered models")
		return nil
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MODEL\tLATEST\tUSED BY")
	for _, m := range models {
		name, latest := oneLine(m.Name), oneLine(m.Latest)
		if m.Registry != "" {
			name += " (registry " + oneLine(m.Registry) + ")"
		}
		if m.Archived {
			name += " (archived)"
		}
		if latest == "" {
			latest = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", name, latest, usesOf(m.UsedBy))
	}
	return table.Flush()
}

func (a *app) printVersions(m registeredModel) error {
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tTYPE\tCREATED\tDATASTORE\tPATH\tUSED BY")
	for _, v := range m.Versions {
		number, created, store, path := oneLine(v.Version), "-", oneLine(v.Datastore), oneLine(v.Path)
		if v.Version == m.Latest {
			number += " (latest)"
		}
		if v.Archived {
			number += " (archived)"
		}
		if !v.Created.IsZero() {
			created = v.Created.UTC().Format("2006-01-02 15:04")
		}
		if store == "" {
			store, path = "-", oneLine(v.URI)
		}
		var uses []modelUse
		for _, use := range m.UsedBy {
			if use.Version == v.Version || use.Version == latestVersion && v.Version == m.Latest {
				uses = append(uses, use)
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", number, oneLine(v.Type), created, store, path, usesOf(uses))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, use := range m.UsedBy {
		if use.NotRegistered {
			fmt.Fprintf(a.err, "%s\n", oneLine(use.String()))
		}
	}
	return nil
}
