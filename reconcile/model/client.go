// Package model finds model artifacts: a version registered in the workspace leads over its
// datastore to blobs, one of a registry to its storage, a local path to files. All end as files
// that a scoring image is made of.
//
// The identity of a registered version needs no byte of it, because versions are immutable;
// its files are fetched only when an image has to be built, into a cache folder: in ranges, of
// which those that are here are not fetched again, each checked by the hash that the blob
// service gives for it, and kept by what they contain.
//
// Blobs are read with the identity's own token. An account's key is asked for only where the
// file allows that, and only after the token was refused.
package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/spec"
)

// Options say which workspace, and where files are kept.
type Options struct {
	SubscriptionID, ResourceGroup, Workspace string
	// AllowAccountKeys lets blobs be read with the key that a datastore holds, where the
	// identity's token is refused.
	AllowAccountKeys bool
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
	cache      cache

	known      memo[artifact]   // registered versions, by registry/name:version
	containers memo[string]     // URLs, by datastore
	registries memo[mlRegistry] // by name
	fetching   sync.Map         // chan struct{}, by tree: one at a time
	transfers  chan struct{}    // as many as may run at a time
}

// New makes a client over a connection to Resource Manager.
func New(credential azcore.TokenCredential, options *arm.ClientOptions, o Options) (*Client, error) {
	if o.CacheDir == "" {
		folder, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find a cache folder: %w", err)
		}
		o.CacheDir = filepath.Join(folder, "amlaks")
	}
	hashes, err := OpenHashes(o.CacheDir)
	if err != nil {
		return nil, err
	}
	factory, err := armmachinelearning.NewClientFactory(o.SubscriptionID, credential, options)
	if err != nil {
		return nil, err
	}
	return &Client{
		options: o, credential: credential, arm: options, hashes: hashes, factory: factory,
		cache: cache{dir: filepath.Join(o.CacheDir, "models")}, transfers: make(chan struct{}, maxTransfers),
	}, nil
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
	sum := sha256.Sum256([]byte(found.identity()))
	return hex.EncodeToString(sum[:]), nil
}

// Files gives a local file or folder with the model's content, fetched if need be. What was
// fetched must not be changed.
func (c *Client) Files(ctx context.Context, m spec.Model, progress func(string)) (string, error) {
	if m.Path != "" {
		return m.Path, nil
	}
	found, err := c.find(ctx, m)
	if err != nil {
		return "", err
	}
	// Services of one run often share a model: the first fetches it, and the others find it.
	gate, _ := c.fetching.LoadOrStore(treeKey(found), make(chan struct{}, 1))
	alone := gate.(chan struct{})
	select {
	case alone <- struct{}{}:
		defer func() { <-alone }()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	return c.fetch(ctx, found, progress)
}
