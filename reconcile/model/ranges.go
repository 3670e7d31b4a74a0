package model

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

const (
	// maxTries of a range whose content broke off, or arrived damaged. What fails before there
	// is any content is tried again by the client itself.
	maxTries   = 6
	firstPause = 250 * time.Millisecond
)

// fetchFile makes an object of a blob, and gives its digest.
func (c *Client) fetchFile(ctx context.Context, client *container.Client, found artifact, f file, t *tally) (string, error) {
	// By its entity tag: a blob that was written over is another one.
	key := keyOf(found.container, f.name, string(f.etag), fmt.Sprint(f.size))
	if digest, err := c.cache.blob(ctx, key, f.size); digest != "" || err != nil {
		t.add(f.size)
		return digest, err
	}
	p, err := openPartial(ctx, c.cache.partial(key), f.size, func() bool { return exists(c.cache.known(key)) })
	if err != nil {
		return "", err
	}
	if p == nil {
		t.add(f.size)
		return c.cache.blob(ctx, key, f.size)
	}
	defer p.close()
	if p.resume > 0 {
		t.say(fmt.Sprintf("%s of %s are here already", mebibytes(p.resume), f.rel))
	}
	t.add(p.resume)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(maxTransfers)
	from := client.NewBlobClient(f.name)
	for _, index := range p.missing() {
		group.Go(func() error { return c.fetchRange(groupCtx, from, found, f, p, index, t) })
	}
	if err := group.Wait(); err != nil {
		if errors.Is(err, errMoved) { // nobody will ask for this one again
			err = errors.Join(err, p.forget())
		}
		return "", err
	}
	digest, sum, err := whole(ctx, f, p)
	if err != nil {
		return "", err
	}
	if f.md5 != nil && !bytes.Equal(f.md5, sum) {
		return "", errors.Join(&reconcile.Failure{
			Reason: reconcile.ReasonConflict,
			Err:    fmt.Errorf("%s: its content has MD5 %x, and its Content-MD5 is %x", f.name, sum, f.md5),
			Hint:   "the blob is not what was uploaded: register the model again",
		}, p.forget())
	}
	return digest, errors.Join(c.cache.keep(ctx, p.data, key, digest), p.finish())
}

// whole reads the file once more, for its own hash and, if the blob has one, for its MD5.
func whole(ctx context.Context, f file, p *partial) (digest string, sum []byte, err error) {
	own, theirs := sha256.New(), md5.New()
	to := io.Writer(own)
	if f.md5 != nil {
		to = io.MultiWriter(own, theirs)
	}
	if _, err := io.Copy(to, reader{ctx, io.NewSectionReader(p.data, 0, f.size)}); err != nil {
		return "", nil, err
	}
	return hex.EncodeToString(own.Sum(nil)), theirs.Sum(nil), nil
}

// fetchRange writes one range to its place and notes it in the journal.
func (c *Client) fetchRange(ctx context.Context, from *blob.Client, found artifact, f file, p *partial, index int, t *tally) error {
	select {
	case c.transfers <- struct{}{}:
		defer func() { <-c.transfers }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	pause := firstPause
	for try := 1; ; try++ {
		sum, err := tryRange(ctx, from, f, p, index)
		if err == nil {
			_, count := p.bounds(index)
			t.add(count)
			return p.wrote(index, sum)
		}
		var broken brokenError
		if !errors.As(err, &broken) || try == maxTries {
			return c.storageFailure("read "+f.name, found, err)
		}
		retry.Say(ctx, fmt.Sprintf("%s: %v; trying again", f.rel, broken))
		if err := retry.Pause(ctx, pause); err != nil {
			return err
		}
		pause *= 2
	}
}

// brokenError is a range whose content did not arrive whole.
type brokenError struct{ what string }

func (e brokenError) Error() string { return e.what }

func tryRange(ctx context.Context, from *blob.Client, f file, p *partial, index int) (sum []byte, err error) {
	offset, count := p.bounds(index)
	answer, err := from.DownloadStream(ctx, &blob.DownloadStreamOptions{
		Range: blob.HTTPRange{Offset: offset, Count: count}, RangeGetContentMD5: to.Ptr(true),
		AccessConditions: &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfMatch: to.Ptr(quoted(f.etag))}},
	})
	switch {
	case isStatus(err, http.StatusPreconditionFailed), isStatus(err, http.StatusNotFound), isStatus(err, http.StatusRequestedRangeNotSatisfiable):
		return nil, fmt.Errorf("%s %w", f.name, errMoved)
	case err != nil:
		return nil, err
	}
	defer answer.Body.Close()
	if want := fmt.Sprintf("bytes %d-%d/", offset, offset+count-1); answer.ContentRange == nil || !strings.HasPrefix(*answer.ContentRange, want) {
		return nil, brokenError{"another range came than was asked for"}
	}
	own := md5.New()
	n, err := io.Copy(io.MultiWriter(io.NewOffsetWriter(p.data, offset), own), io.LimitReader(answer.Body, count))
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && isDisk(err):
		return nil, err
	case err != nil:
		return nil, brokenError{retry.Words(err)}
	case n != count:
		return nil, brokenError{fmt.Sprintf("%d bytes came, of %d", n, count)}
	case answer.ContentMD5 != nil && !bytes.Equal(answer.ContentMD5, own.Sum(nil)):
		return nil, brokenError{"what came is not what its hash says"}
	}
	return own.Sum(nil), nil
}

// quoted gives an entity tag as a header wants it: lists of blobs have them without quotes.
func quoted(tag azcore.ETag) azcore.ETag {
	if text := string(tag); !strings.HasSuffix(text, `"`) {
		return azcore.ETag(`"` + text + `"`)
	}
	return tag
}
