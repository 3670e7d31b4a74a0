package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
)

const (
	// maxTransfers run at a time: enough for one connection's latency not to matter.
	maxTransfers = 8
	// maxListings is how often files are listed anew that change while they are read.
	maxListings = 3
)

// file is a blob of a model.
type file struct {
	name string // in the container
	rel  string // in the model
	size int64
	etag azcore.ETag
	md5  []byte // nil when the blob has none: one that was uploaded in blocks may not
}

// errMoved says that a blob is no longer the one that was listed.
var errMoved = errors.New("changed while it was read")

// treeKey names what is kept of an artifact. Versions are immutable, so that needs no byte of it.
func treeKey(found artifact) string {
	return keyOf(found.label, found.uri, found.container, found.path)
}

// fetch downloads a registered version and gives a folder with it. A file keeps its name in
// it, and a folder stays a folder, as v1 laid them out.
func (c *Client) fetch(ctx context.Context, found artifact, progress func(string)) (string, error) {
	tree := treeKey(found)
	if err := c.cache.prepare(); err != nil {
		return "", c.onDisk(err)
	}
	if dir, ok, err := c.cache.get(ctx, tree); ok || err != nil {
		return dir, err
	}
	defer c.cache.prune(time.Now())
	var last error
	for range maxListings {
		client, files, err := c.list(ctx, found)
		if err != nil {
			return "", err
		}
		dir, err := c.fetchFiles(ctx, client, found, files, tree, progress)
		if errors.Is(err, errMoved) || errors.Is(err, fs.ErrNotExist) { // the latter: another process has pruned the cache
			last = err
			continue
		}
		return dir, c.onDisk(err)
	}
	if !errors.Is(last, errMoved) {
		return "", last
	}
	return "", &reconcile.Failure{
		Reason: reconcile.ReasonConflict,
		Err:    fmt.Errorf("model %s: %w, %d times", found.label, last, maxListings),
		Hint:   "somebody writes over its files: a version must not change once it is registered; register what is new as a new version",
	}
}

// list opens the artifact's container and gives the files of the model in it.
func (c *Client) list(ctx context.Context, found artifact) (*container.Client, []file, error) {
	client, err := c.withToken(ctx, found)
	if err != nil {
		return nil, nil, err
	}
	files, err := listFiles(ctx, client, found.path)
	if tokenRefused(err) && found.registry == nil {
		if client, err = c.withKey(ctx, found, err); err != nil {
			return nil, nil, err
		}
		files, err = listFiles(ctx, client, found.path)
	}
	if err != nil {
		return nil, nil, c.storageFailure("list the files of model "+found.label, found, err)
	}
	if len(files) == 0 {
		return nil, nil, c.nothingThere(found)
	}
	return client, files, nil
}

func (c *Client) nothingThere(found artifact) error {
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("model %s is registered, but there is nothing at %s", found.label, withoutQuery(found.uri)),
		Hint:   "its files were deleted from the storage account: register it again",
	}
	if found.datastore == artifactStore {
		failure.Hint = fmt.Sprintf("it was looked for in datastore %s, at %s: where the job's files lie elsewhere, register the model again from their datastore path", artifactStore, found.path)
	}
	return failure
}

// listFiles gives the one blob at a path, or all below it.
func listFiles(ctx context.Context, client *container.Client, at string) ([]file, error) {
	folder := path.Base(at)
	var files []file
	pager := client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &at, Include: container.ListBlobsInclude{Metadata: true}})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Segment.BlobItems {
			if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil || item.Properties.ETag == nil {
				continue
			}
			name := *item.Name
			rel, below := strings.CutPrefix(name, at+"/")
			switch {
			case isFolder(item.Metadata), strings.HasSuffix(name, "/") && *item.Properties.ContentLength == 0:
				continue
			case at == "":
				rel = name
			case name == at:
				rel = folder
			case below:
				rel = folder + "/" + rel
			default:
				continue // a longer name that only begins alike
			}
			if !filepath.IsLocal(filepath.FromSlash(rel)) || path.Clean(rel) != rel {
				return nil, fmt.Errorf("blob %q: its name cannot be that of a file in the model's folder", name)
			}
			files = append(files, file{name: name, rel: rel, size: *item.Properties.ContentLength, etag: *item.Properties.ETag, md5: item.Properties.ContentMD5})
		}
	}
	return files, nil
}

// isFolder tells the marker by which a storage account with a hierarchical namespace, and tools
// that imitate one, show a folder among the blobs.
func isFolder(metadata map[string]*string) bool {
	for name, value := range metadata {
		if strings.EqualFold(name, "hdi_isfolder") && value != nil && strings.EqualFold(*value, "true") {
			return true
		}
	}
	return false
}

// fetchFiles fetches what is not here, and makes the tree.
func (c *Client) fetchFiles(ctx context.Context, client *container.Client, found artifact, files []file, tree string, progress func(string)) (string, error) {
	all := make([]kept, len(files))
	t := &tally{label: found.label, say: progress}
	for _, f := range files {
		t.total += f.size
	}
	progress(fmt.Sprintf("fetching model %s, %s in %d files", found.label, mebibytes(t.total), len(files)))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxTransfers)
	for i, f := range files {
		group.Go(func() error {
			digest, err := c.fetchFile(groupCtx, client, found, f, t)
			all[i] = kept{Path: f.rel, Size: f.size, SHA256: digest}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	return c.cache.put(tree, all)
}

// tally tells how far a download is, in tenths.
type tally struct {
	label string
	total int64
	done  atomic.Int64
	said  atomic.Int64 // tenths
	say   func(string)
}

// worthTelling is the size from which a download takes long enough to be told of in between.
const worthTelling = 256 << 20

func (t *tally) add(n int64) {
	done := t.done.Add(n)
	tenths := done * 10 / max(t.total, 1)
	if said := t.said.Load(); t.total >= worthTelling && tenths > said && tenths < 10 && t.said.CompareAndSwap(said, tenths) {
		t.say(fmt.Sprintf("fetching model %s, %s of %s", t.label, mebibytes(done), mebibytes(t.total)))
	}
}

// mebibytes rounds up, so that nothing is 0 MiB.
func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }
