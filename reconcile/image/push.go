package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

const (
	// progressEvery is how often an upload says how far it is.
	progressEvery = 2 * time.Second
	// The pauses between tries of a push grow from the first to the second.
	firstPause = time.Second
	maxPause   = 15 * time.Second
	// minTries are made of a push even when one takes longer than all patience.
	minTries = 4
)

// push writes layers, configuration and manifest, in that order. After a fault that may pass it
// begins again with what is missing: layers that have arrived are found there and not sent again.
func (d *Driver) push(ctx context.Context, tag name.Tag, built v1.Image, progress func(string)) error {
	var furthest int64
	pause, spent, tries := firstPause, time.Duration(0), 0
	for {
		began := time.Now()
		sent, cause := d.pushOnce(ctx, tag, built, progress)
		if cause == nil || errors.Is(cause, errChanged) {
			return cause
		}
		err := explain("push the image", tag.Registry, cause)
		if sent > furthest { // it gets on, so patience begins anew
			pause, spent, tries, furthest = firstPause, 0, 0, sent
		}
		tries++
		spent += time.Since(began)
		passes := reconcile.ReasonOf(err) == reconcile.ReasonUnavailable && retry.PassingError(cause)
		if !passes || ctx.Err() != nil || tries >= minTries && spent+pause > retry.Budget(ctx) {
			return err
		}
		progress(fmt.Sprintf("%v; trying again", err))
		if pauseErr := retry.Pause(ctx, pause); pauseErr != nil {
			return fmt.Errorf("push the image: %w: %v", pauseErr, err)
		}
		spent += pause
		pause = min(2*pause, maxPause)
	}
}

// pushOnce gives how many bytes the registry had in the end, those it had before included.
func (d *Driver) pushOnce(ctx context.Context, tag name.Tag, built v1.Image, progress func(string)) (sent int64, err error) {
	updates := make(chan v1.Update, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		said := time.Now()
		for update := range updates {
			sent = max(sent, update.Complete)
			if now := time.Now(); now.Sub(said) >= progressEvery {
				said = now
				progress(fmt.Sprintf("pushed %d of %d MiB", update.Complete>>20, update.Total>>20))
			}
		}
	}()
	err = remote.Write(tag, built, append(d.with(ctx), remote.WithProgress(updates))...)
	<-done
	return sent, err
}

func isNotFound(err error) bool {
	var response *transport.Error
	return errors.As(err, &response) && response.StatusCode == http.StatusNotFound
}

// explain says what a registry's answer means.
func explain(doing string, registry name.Registry, err error) error {
	if err == nil || reconcile.ReasonOf(err) != "" || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var response *transport.Error
	if !errors.As(err, &response) {
		var final retry.Final
		if errors.Is(err, errChanged) || os.IsNotExist(err) || errors.As(err, &final) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return &reconcile.Failure{
			Reason: reconcile.ReasonUnavailable,
			Err:    fmt.Errorf("%s: registry %s cannot be reached: %w", doing, registry, err),
			Hint:   "is its name right (workspace.registry), and may this machine reach it?",
		}
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: registry %s: %w", doing, registry, err)}
	switch {
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs AcrPush on the registry (AcrPull to plan)"
	case response.StatusCode == http.StatusNotFound && response.Request != nil && writes(response.Request), response.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		// An upload that the registry has forgotten, or ended when its answer was lost.
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "the registry lost the upload each time: run apply again later"
	case response.StatusCode == http.StatusNotFound:
		failure.Reason = reconcile.ReasonNotFound
	case response.StatusCode == http.StatusConflict, response.StatusCode == http.StatusPreconditionFailed:
		failure.Reason = reconcile.ReasonConflict
		failure.Hint = "the registry does not let this tag be written: is it locked, or immutable there?"
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason = reconcile.ReasonThrottled
		failure.Hint = "the registry's request budget is used up: run apply again in a minute"
	case retry.PassingStatus(response.StatusCode), hasCode(response, transport.BlobUploadInvalidErrorCode), hasCode(response, transport.DigestInvalidErrorCode):
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "the registry answered this to every retry: run apply again later"
	default:
		return failure.Err
	}
	return failure
}

// hasCode tells of an upload that arrived damaged, which a registry answers as the client's fault.
func hasCode(response *transport.Error, code transport.ErrorCode) bool {
	for _, diagnostic := range response.Errors {
		if diagnostic.Code == code {
			return true
		}
	}
	return false
}
