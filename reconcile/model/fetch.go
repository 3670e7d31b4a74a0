package model

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// downloads run at a time: enough for one connection's latency not to matter.
const downloads = 8

// blob is one file of a model.
type blob struct {
	name string // in the container
	rel  string // in the cache folder
	size int64
}

// fetch downloads a registered version into a folder of its own and gives that folder. A
// file keeps its name in it, and a folder stays a folder, as v1 laid them out.
func (c *Client) fetch(ctx context.Context, m spec.Model, found artifact, progress func(string)) (string, error) {
	sum := sha256.Sum256([]byte(m.Name + ":" + m.Version + "\n" + found.uri + "\n" + found.container))
	final := filepath.Join(c.options.CacheDir, "models", hex.EncodeToString(sum[:]))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	u, err := url.Parse(found.container)
	if err != nil {
		return "", err
	}
	if !takesToken(u) {
		return "", &reconcile.Failure{
			Reason: reconcile.ReasonForbidden,
			Err:    fmt.Errorf("model %s:%s lies at %s, which is not Azure's blob storage", m.Name, m.Version, u.Host),
			Hint:   "storage tokens are only sent to hosts of " + strings.Join(blobSuffixes(), ", "),
		}
	}
	options := &container.ClientOptions{ClientOptions: c.arm.ClientOptions}
	options.PerCallPolicies = nil // those of Resource Manager
	options.InsecureAllowCredentialWithHTTP = options.InsecureAllowCredentialWithHTTP && reconcile.IsLoopback(u.Hostname())
	client, err := container.NewClient(found.container, c.credential, options)
	if err != nil {
		return "", err
	}
	blobs, err := list(ctx, client, found.path)
	if err != nil {
		return "", err
	}
	if len(blobs) == 0 {
		return "", &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("model %s:%s is registered, but there is nothing at %s", m.Name, m.Version, found.uri),
			Hint:   "its files were deleted from the storage account: register it again",
		}
	}
	if err := os.MkdirAll(filepath.Dir(final), 0o700); err != nil {
		return "", err
	}
	temporary, err := os.MkdirTemp(filepath.Dir(final), "fetch-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	var total int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(downloads)
	for _, b := range blobs {
		total += b.size
		group.Go(func() error { return download(groupCtx, client, b, temporary) })
	}
	progress(fmt.Sprintf("fetching model %s:%s, %d MiB", m.Name, m.Version, total>>20))
	if err := group.Wait(); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, final); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return final, nil
}

// blobSuffixes are the blob storages of the public, the Chinese and the US Government cloud.
func blobSuffixes() []string {
	return []string{".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"}
}

// takesToken tells whether a storage token may go there. The workspace names the host, so
// whoever can write to the workspace could otherwise collect tokens.
func takesToken(u *url.URL) bool {
	if reconcile.IsLoopback(u.Hostname()) {
		return true
	}
	known := func(suffix string) bool { return strings.HasSuffix(strings.ToLower(u.Hostname()), suffix) }
	return u.Scheme == "https" && slices.ContainsFunc(blobSuffixes(), known)
}

// list gives the one blob at a path, or all below it.
func list(ctx context.Context, client *container.Client, at string) ([]blob, error) {
	at = strings.TrimSuffix(at, "/")
	folder := path.Base(at)
	var blobs []blob
	pager := client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &at})
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, explain("list the model's files", err)
		}
		for _, item := range page.Segment.BlobItems {
			name, size := *item.Name, int64(0)
			if item.Properties != nil && item.Properties.ContentLength != nil {
				size = *item.Properties.ContentLength
			}
			rel, below := strings.CutPrefix(name, at+"/")
			switch {
			case name == at:
				rel = folder
			case below && rel != "":
				rel = folder + "/" + rel
			default:
				continue // a longer name that only begins alike, or a folder's marker
			}
			if !filepath.IsLocal(filepath.FromSlash(rel)) {
				return nil, fmt.Errorf("blob %q: its name leaves the model's folder", name)
			}
			blobs = append(blobs, blob{name: name, rel: rel, size: size})
		}
	}
	return blobs, nil
}

func download(ctx context.Context, client *container.Client, b blob, dir string) error {
	target := filepath.Join(dir, filepath.FromSlash(b.rel))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	answer, err := client.NewBlobClient(b.name).DownloadStream(ctx, nil)
	if err != nil {
		return explain("read "+b.name, err)
	}
	body := answer.NewRetryReader(ctx, nil)
	defer body.Close()
	file, err := os.Create(target)
	if err != nil {
		return err
	}
	n, err := io.Copy(file, io.LimitReader(body, b.size+1))
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read %s: %w", b.name, err)
	}
	if n != b.size {
		return fmt.Errorf("read %s: it is %d bytes, not the %d that were listed", b.name, n, b.size)
	}
	return nil
}
