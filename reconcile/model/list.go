package model

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
)

// Registered is a model of the workspace.
type Registered struct {
	Name string
	// Latest is the version that was created last, which is what az ml means by @latest; ""
	// when the model has none.
	Latest   string
	Archived bool
}

// Version is a registered version of a model.
type Version struct {
	Version string
	Type    string // custom_model, mlflow_model or triton_model
	Stage   string
	URI     string
	// Datastore and Path are what the URI says; "" where it leads elsewhere.
	Datastore, Path string
	Archived        bool
	Created         time.Time // zero when the service does not say
}

// List gives all models of the workspace, in its order, a request for each page of them.
func (c *Client) List(ctx context.Context) ([]Registered, error) {
	pager := c.factory.NewModelContainersClient().NewListPager(c.options.ResourceGroup, c.options.Workspace,
		&armmachinelearning.ModelContainersClientListOptions{ListViewType: to.Ptr(armmachinelearning.ListViewTypeAll)})
	var models []Registered
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, c.refused(ctx, c.own(), "list the models of workspace "+c.options.Workspace, err)
		}
		for _, model := range page.Value {
			if model.Name == nil || model.Properties == nil {
				continue
			}
			models = append(models, Registered{Name: *model.Name, Latest: value(model.Properties.LatestVersion), Archived: value(model.Properties.IsArchived)})
		}
	}
	return models, nil
}

// Versions gives the versions of a model, the newest first, archived ones included.
func (c *Client) Versions(ctx context.Context, name string) ([]Version, error) {
	pager := c.factory.NewModelVersionsClient().NewListPager(c.options.ResourceGroup, c.options.Workspace, name,
		&armmachinelearning.ModelVersionsClientListOptions{OrderBy: to.Ptr("createdtime desc"), ListViewType: to.Ptr(armmachinelearning.ListViewTypeAll)})
	var versions []Version
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if isStatus(err, http.StatusNotFound) {
			if legacy := c.legacy(ctx, c.own()); legacy != nil {
				return nil, legacy
			}
			return nil, &reconcile.Failure{
				Reason: reconcile.ReasonNotFound,
				Err:    fmt.Errorf("workspace %s has no model %s", c.options.Workspace, name),
				Hint:   "amlaks models lists those that it has",
			}
		}
		if err != nil {
			return nil, c.refused(ctx, c.own(), "list the versions of model "+name, err)
		}
		for _, v := range page.Value {
			if v.Name == nil || v.Properties == nil {
				continue
			}
			version := Version{
				Version: *v.Name, Type: value(v.Properties.ModelType), Stage: value(v.Properties.Stage),
				URI: withoutQuery(value(v.Properties.ModelURI)), Archived: value(v.Properties.IsArchived),
			}
			if v.SystemData != nil {
				version.Created = value(v.SystemData.CreatedAt)
			}
			if at, err := parseURI(version.URI); err == nil {
				version.Datastore, version.Path = at.datastore, at.path
			}
			versions = append(versions, version)
		}
	}
	return versions, nil
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// LatestInRegistry gives the version of a registry's model that was created last.
func (c *Client) LatestInRegistry(ctx context.Context, registry, name string) (string, error) {
	in, err := c.registry(ctx, registry)
	if err != nil {
		return "", err
	}
	client, err := armmachinelearning.NewRegistryModelContainersClient(in.subscription, c.credential, c.arm)
	if err != nil {
		return "", err
	}
	answer, err := client.Get(ctx, in.group, in.name, name, nil)
	if err != nil {
		return "", explain(fmt.Sprintf("read model %s of registry %s", name, in.name), err)
	}
	if answer.Properties == nil {
		return "", nil
	}
	return value(answer.Properties.LatestVersion), nil
}
