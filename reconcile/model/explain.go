package model

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"syscall"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/amlaks/amlaks/reconcile"
)

func asResponse(err error, response **azcore.ResponseError) bool { return errors.As(err, response) }

func isStatus(err error, status int) bool {
	var response *azcore.ResponseError
	return asResponse(err, &response) && response.StatusCode == status
}

// explain says what an error of ARM or the blob store means. azcore's text shows a page of
// headers, so only its code is kept; net/http's shows the URL, which may be signed.
func explain(doing string, err error) error {
	var own *reconcile.Failure
	if errors.As(err, &own) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, unaddressed(err))
	}
	var response *azcore.ResponseError
	if !asResponse(err, &response) {
		return &reconcile.Failure{Reason: reconcile.ReasonUnavailable, Err: fmt.Errorf("%s: %w", doing, unaddressed(err))}
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: HTTP %d %s%s", doing, response.StatusCode, response.ErrorCode, requestID(response))}
	switch {
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs AzureML Data Scientist on the workspace"
	case response.StatusCode == http.StatusNotFound:
		failure.Reason = reconcile.ReasonNotFound
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason = reconcile.ReasonThrottled
	case response.StatusCode >= http.StatusInternalServerError:
		failure.Reason = reconcile.ReasonUnavailable
	}
	return failure
}

// requestID is what to give Azure's support.
func requestID(response *azcore.ResponseError) string {
	if raw := response.RawResponse; raw != nil {
		if id := raw.Header.Get("X-Ms-Request-Id"); id != "" {
			return " (request " + id + ")"
		}
	}
	return ""
}

// unaddressed gives what went wrong without the URL that it went wrong at.
func unaddressed(err error) error {
	var addressed *url.Error
	if errors.As(err, &addressed) {
		return addressed.Err
	}
	return err
}

// onDisk explains an error of writing into the cache.
func (c *Client) onDisk(err error) error {
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	return &reconcile.Failure{
		Err:  fmt.Errorf("no room in %s: %w", c.options.CacheDir, err),
		Hint: "models are kept there before they go into an image: make room, or name another folder by XDG_CACHE_HOME",
	}
}
