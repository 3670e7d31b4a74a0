package model

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// artifact is where the files of a registered version lie.
type artifact struct {
	label     string // for messages: churn:3
	uri       string // as registered
	container string // URL
	path      string // of the blob, or the prefix of the folder; "" is the whole container
	// datastore is the one that the container is known by, in a workspace; "" for other places.
	datastore string
	scope     scope
	// registry is set for a version of a registry, whose files are read with a signature.
	registry *registryVersion
}

// identity is what names the artifact's content, as long as versions are immutable.
func (a artifact) identity() string { return a.label + "\n" + a.uri }

// find resolves a model to its place, once a run.
func (c *Client) find(ctx context.Context, m spec.Model) (artifact, error) {
	return c.known.get(m.Registry+"/"+label(m), func() (artifact, error) {
		if m.Registry != "" {
			return c.findInRegistry(ctx, label(m), place{registry: m.Registry, name: m.Name, version: m.Version})
		}
		uri, err := c.registered(ctx, m)
		if err != nil {
			return artifact{}, err
		}
		found, err := c.locate(ctx, label(m), uri)
		if err != nil {
			return artifact{}, fmt.Errorf("model %s: %w", label(m), err)
		}
		return found, nil
	})
}

func label(m spec.Model) string { return m.Name + ":" + m.Version }

// own is the workspace of the file.
func (c *Client) own() scope {
	return scope{c.options.SubscriptionID, c.options.ResourceGroup, c.options.Workspace}
}

// registered gives the URI of a version of the workspace.
func (c *Client) registered(ctx context.Context, m spec.Model) (string, error) {
	answer, err := c.factory.NewModelVersionsClient().Get(ctx, c.options.ResourceGroup, c.options.Workspace, m.Name, m.Version, nil)
	if isStatus(err, http.StatusNotFound) {
		if legacy := c.legacy(ctx, c.own()); legacy != nil {
			return "", legacy
		}
		return "", c.notRegistered(ctx, m)
	}
	if err != nil {
		return "", c.refused(ctx, c.own(), "read model "+label(m), err)
	}
	if answer.Properties == nil || answer.Properties.ModelURI == nil {
		return "", fmt.Errorf("model %s has no URI", label(m))
	}
	return *answer.Properties.ModelURI, nil
}

// listedVersions is how many existing versions an error names.
const listedVersions = 5

func (c *Client) notRegistered(ctx context.Context, m spec.Model) error {
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("model %s is not registered in workspace %s", label(m), c.options.Workspace),
		Hint:   "register it, or correct the name and version under models; amlaks models shows what there is",
	}
	pager := c.factory.NewModelVersionsClient().NewListPager(c.options.ResourceGroup, c.options.Workspace, m.Name,
		&armmachinelearning.ModelVersionsClientListOptions{Top: to.Ptr[int32](listedVersions)})
	if !pager.More() {
		return failure
	}
	page, err := pager.NextPage(ctx)
	if err != nil {
		return failure // the hint is a courtesy
	}
	var versions []string
	for _, version := range page.Value {
		if version.Name != nil && len(versions) < listedVersions {
			versions = append(versions, *version.Name)
		}
	}
	if len(versions) > 0 {
		failure.Hint = fmt.Sprintf("versions of %s that exist: %s", m.Name, strings.Join(versions, ", "))
	}
	return failure
}

// locate turns a model URI into a container and a path in it.
func (c *Client) locate(ctx context.Context, label, uri string) (artifact, error) {
	p, err := parseURI(uri)
	if err != nil {
		return artifact{}, err
	}
	if p.scope == (scope{}) {
		p.scope = c.own()
	}
	if p.run != "" {
		if p, err = c.ofJob(ctx, p); err != nil {
			return artifact{}, err
		}
	}
	found := artifact{label: label, uri: uri, container: p.container, path: p.path}
	switch {
	case p.registry != "":
		return c.findInRegistry(ctx, label, p)
	case p.datastore != "":
		found.datastore, found.scope = p.datastore, p.scope
		found.container, err = c.containers.get(p.scope.id()+"/"+p.datastore, func() (string, error) { return c.container(ctx, p.scope, p.datastore) })
	}
	return found, err
}

const (
	// artifactStore is the datastore in which a workspace keeps what its runs log.
	artifactStore = "workspaceartifactstore"
	// The outputs of a job by which az ml means that folder.
	outputArtifacts, outputDefault = "artifacts", "default"
)

// ofJob gives the place of a job's output. What a run logged lies in the artifact store under
// ExperimentRun/dcid.RUN, with v1 and with v2; that is what both SDKs rely on, and documented
// nowhere. Where an output with a name of its own was written, the job says.
func (c *Client) ofJob(ctx context.Context, p place) (place, error) {
	if p.output == "" || p.output == outputArtifacts || p.output == outputDefault {
		return place{scope: p.scope, datastore: artifactStore, path: below("ExperimentRun/dcid."+p.run, p.path)}, nil
	}
	client, err := armmachinelearning.NewJobsClient(p.scope.subscription, c.credential, c.arm)
	if err != nil {
		return place{}, err
	}
	answer, err := client.Get(ctx, p.scope.group, p.scope.workspace, p.run, nil)
	if err != nil {
		return place{}, c.refused(ctx, p.scope, "read job "+p.run, err)
	}
	// Each of the many types of jobs has outputs of its own; they look alike as JSON.
	var job struct {
		Outputs map[string]struct {
			URI string `json:"uri"`
		} `json:"outputs"`
	}
	content, err := json.Marshal(answer.Properties)
	if err == nil {
		err = json.Unmarshal(content, &job)
	}
	if err != nil {
		return place{}, fmt.Errorf("read job %s: %w", p.run, err)
	}
	output, err := parseURI(job.Outputs[p.output].URI)
	if err != nil || output.datastore == "" {
		return place{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("job %s does not say where its output %s is", p.run, p.output),
			Hint:   "register the model again, from the datastore path that the job's page in the studio shows",
		}
	}
	if output.scope == (scope{}) {
		output.scope = p.scope
	}
	output.path = below(output.path, p.path)
	return output, nil
}

func below(folder, path string) string { return clean(folder + "/" + path) }

// container is the URL of a datastore's container.
func (c *Client) container(ctx context.Context, in scope, datastore string) (string, error) {
	client, err := armmachinelearning.NewDatastoresClient(in.subscription, c.credential, c.arm)
	if err != nil {
		return "", err
	}
	answer, err := client.Get(ctx, in.group, in.workspace, datastore, nil)
	if err != nil {
		doing := "read datastore " + datastore
		if in != c.own() {
			doing += " of workspace " + in.workspace
		}
		return "", c.refused(ctx, in, doing, err)
	}
	// An account with a hierarchical namespace answers as a blob store too, and a file system of
	// it is a container (multi-protocol access on Data Lake Storage).
	var name, folder, protocol, endpoint string
	switch store := answer.Properties.(type) {
	case *armmachinelearning.AzureBlobDatastore:
		name, folder, protocol, endpoint = value(store.AccountName), value(store.ContainerName), value(store.Protocol), value(store.Endpoint)
	case *armmachinelearning.AzureDataLakeGen2Datastore:
		name, folder, protocol, endpoint = value(store.AccountName), value(store.Filesystem), value(store.Protocol), value(store.Endpoint)
	}
	if name == "" || folder == "" {
		return "", &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("datastore %s is not a blob container", datastore),
			Hint:   "models are read from blob storage: register the model from a datastore of type azure_blob or azure_data_lake_gen2",
		}
	}
	protocol, endpoint = cmp.Or(protocol, "https"), cmp.Or(endpoint, "core.windows.net")
	host := endpoint
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		host = h
	}
	if net.ParseIP(host) != nil {
		return protocol + "://" + endpoint + "/" + name + "/" + folder, nil
	}
	return protocol + "://" + name + ".blob." + endpoint + "/" + folder, nil
}

// memo remembers what was found, not what failed, and asks once for what several want at a time.
type memo[T any] struct {
	mu      sync.Mutex
	entries map[string]*entry[T]
}

type entry[T any] struct {
	mu    sync.Mutex
	known bool
	value T
}

func (m *memo[T]) get(key string, find func() (T, error)) (T, error) {
	m.mu.Lock()
	if m.entries == nil {
		m.entries = map[string]*entry[T]{}
	}
	e := m.entries[key]
	if e == nil {
		e = &entry[T]{}
		m.entries[key] = e
	}
	m.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known {
		return e.value, nil
	}
	value, err := find()
	if err == nil {
		e.value, e.known = value, true
	}
	return value, err
}
