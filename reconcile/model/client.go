// Package model finds model artifacts: a version registered in the workspace leads over its
// datastore to blobs, a local path to files. Both end as files that a scoring image is made of.
//
// The identity of a registered version needs no byte of it, because versions are immutable;
// its files are fetched only when an image has to be built, into a cache folder.
package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// Options say which workspace, and where files are kept.
type Options struct {
	SubscriptionID, ResourceGroup, Workspace string
	// CacheDir is amlaks' own; empty means the user's cache folder.
	CacheDir string
}

// Client reads models of one workspace. It is safe for concurrent use.
type Client struct {
	options    Options
	credential azcore.TokenCredential
	arm        *arm.ClientOptions
	hashes     *Hashes
	factory    *armmachinelearning.ClientFactory

	mu    sync.Mutex
	known map[string]artifact // registered versions, by name:version
}

// artifact is a registered version's place.
type artifact struct {
	uri       string
	container string // URL
	path      string // of the blob, or the prefix of the folder
}

// New makes a client over a connection to Resource Manager.
func New(credential azcore.TokenCredential, options *arm.ClientOptions, o Options) (*Client, error) {
	if o.CacheDir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a cache folder: %w", err)
		}
		o.CacheDir = filepath.Join(cache, "amlaks")
	}
	hashes, err := OpenHashes(o.CacheDir)
	if err != nil {
		return nil, err
	}
	factory, err := armmachinelearning.NewClientFactory(o.SubscriptionID, credential, options)
	if err != nil {
		return nil, err
	}
	return &Client{options: o, credential: credential, arm: options, hashes: hashes, factory: factory, known: map[string]artifact{}}, nil
}

// Hashes is the client's memory of local files, to share with whoever hashes more of them.
func (c *Client) Hashes() *Hashes { return c.hashes }

// Identity changes whenever the model's content could have.
func (c *Client) Identity(ctx context.Context, m spec.Model) (string, error) {
	if m.Path != "" {
		return c.hashes.Tree(ctx, m.Path)
	}
	found, err := c.find(ctx, m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(m.Name + ":" + m.Version + "\n" + found.uri))
	return hex.EncodeToString(sum[:]), nil
}

// Files gives a local file or folder with the model's content, fetched if need be.
func (c *Client) Files(ctx context.Context, m spec.Model, progress func(string)) (string, error) {
	if m.Path != "" {
		return m.Path, nil
	}
	found, err := c.find(ctx, m)
	if err != nil {
		return "", err
	}
	return c.fetch(ctx, m, found, progress)
}

// find resolves name:version to its place, once a run.
func (c *Client) find(ctx context.Context, m spec.Model) (artifact, error) {
	key := m.Name + ":" + m.Version
	c.mu.Lock()
	found, ok := c.known[key]
	c.mu.Unlock()
	if ok {
		return found, nil
	}
	answer, err := c.factory.NewModelVersionsClient().Get(ctx, c.options.ResourceGroup, c.options.Workspace, m.Name, m.Version, nil)
	if isStatus(err, http.StatusNotFound) {
		return artifact{}, c.notRegistered(ctx, m)
	}
	if err != nil {
		return artifact{}, explain("read model "+key, err)
	}
	if answer.Properties == nil || answer.Properties.ModelURI == nil {
		return artifact{}, fmt.Errorf("model %s has no URI", key)
	}
	if found, err = c.locate(ctx, *answer.Properties.ModelURI); err != nil {
		return artifact{}, fmt.Errorf("model %s: %w", key, err)
	}
	c.mu.Lock()
	c.known[key] = found
	c.mu.Unlock()
	return found, nil
}

// listedVersions is how many existing versions an error names.
const listedVersions = 5

func (c *Client) notRegistered(ctx context.Context, m spec.Model) error {
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("model %s:%s is not registered in workspace %s", m.Name, m.Version, c.options.Workspace),
		Hint:   "register it, or correct the name and version under models",
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
func (c *Client) locate(ctx context.Context, uri string) (artifact, error) {
	const scheme = "azureml://"
	if !strings.HasPrefix(uri, scheme) {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && reconcile.IsLoopback(u.Hostname())) || u.RawQuery != "" {
			return artifact{}, unsupported(uri)
		}
		segments := 1 // account.blob.core.windows.net/CONTAINER/path
		if net.ParseIP(u.Hostname()) != nil {
			segments = 2 // 127.0.0.1:10000/ACCOUNT/CONTAINER/path, as azblob itself reads an IP address
		}
		parts := strings.SplitN(strings.TrimPrefix(u.Path, "/"), "/", segments+1)
		if len(parts) <= segments {
			return artifact{}, unsupported(uri)
		}
		container := u.Scheme + "://" + u.Host + "/" + strings.Join(parts[:segments], "/")
		return artifact{uri: uri, container: container, path: parts[segments]}, nil
	}
	_, rest, ok := strings.Cut("/"+strings.TrimPrefix(uri, scheme), "/datastores/")
	datastore, blob, hasPath := strings.Cut(rest, "/paths/")
	if !ok || !hasPath || blob == "" {
		return artifact{}, unsupported(uri)
	}
	container, err := c.container(ctx, datastore)
	return artifact{uri: uri, container: container, path: blob}, err
}

func unsupported(uri string) error {
	return &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("its URI %s is of a form that cannot be read here", uri),
		Hint:   "forms that can: azureml://.../datastores/NAME/paths/PATH, and https://ACCOUNT.blob.core.windows.net/CONTAINER/PATH without a signature",
	}
}

// container is the URL of a blob datastore's container.
func (c *Client) container(ctx context.Context, datastore string) (string, error) {
	answer, err := c.factory.NewDatastoresClient().Get(ctx, c.options.ResourceGroup, c.options.Workspace, datastore, nil)
	if err != nil {
		return "", explain("read datastore "+datastore, err)
	}
	blob, ok := answer.Properties.(*armmachinelearning.AzureBlobDatastore)
	if !ok || blob.AccountName == nil || blob.ContainerName == nil {
		return "", fmt.Errorf("datastore %s is not a blob container", datastore)
	}
	protocol, endpoint := "https", "core.windows.net"
	if blob.Protocol != nil {
		protocol = *blob.Protocol
	}
	if blob.Endpoint != nil {
		endpoint = *blob.Endpoint
	}
	host := endpoint
	if h, _, err := net.SplitHostPort(endpoint); err == nil {
		host = h
	}
	if net.ParseIP(host) != nil {
		return protocol + "://" + endpoint + "/" + *blob.AccountName + "/" + *blob.ContainerName, nil
	}
	return protocol + "://" + *blob.AccountName + ".blob." + endpoint + "/" + *blob.ContainerName, nil
}

func isStatus(err error, status int) bool {
	var response *azcore.ResponseError
	return errors.As(err, &response) && response.StatusCode == status
}

// explain says what an error of ARM or the blob store means. azcore's text shows a page of
// headers, so only its code is kept.
func explain(doing string, err error) error {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return &reconcile.Failure{Reason: reconcile.ReasonUnavailable, Err: fmt.Errorf("%s: %w", doing, err)}
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: HTTP %d %s", doing, response.StatusCode, response.ErrorCode)}
	switch {
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs AzureML Data Scientist on the workspace, and Storage Blob Data Reader on its storage account"
	case response.StatusCode == http.StatusNotFound:
		failure.Reason = reconcile.ReasonNotFound
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason = reconcile.ReasonThrottled
	case response.StatusCode >= http.StatusInternalServerError:
		failure.Reason = reconcile.ReasonUnavailable
	}
	return failure
}
