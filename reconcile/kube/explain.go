package kube

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/amlaks/amlaks/reconcile"
)

// What the API server writes when an admission plugin refuses: plugins have no field for it
// (k8s.io/apiserver pkg/admission/plugin/webhook/errors/statuserror.go and
// pkg/admission/plugin/policy/validating/dispatcher.go).
const (
	webhookDenied = "denied the request"
	policyDenied  = "denied request"
	webhookBroken = "failed calling webhook"
	quotaExceeded = "exceeded quota"
)

// explain says what an error of the API server means for whoever runs amlaks.
func explain(doing string, err error) error {
	if err == nil || reconcile.ReasonOf(err) != "" {
		return err
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: %w", doing, err)}
	var network *url.Error
	message := err.Error()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return failure.Err // whoever set the limit says what it means
	case strings.Contains(message, webhookDenied), strings.Contains(message, policyDenied):
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "an admission policy or webhook of the cluster refused it, the message names which: make the file obey it, or ask those who run the cluster"
	case strings.Contains(message, webhookBroken):
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "an admission webhook of the cluster, which the message names, does not work: ask those who run it, and run apply again"
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		failure.Reason = reconcile.ReasonConflict
		failure.Hint = "somebody is deleting the namespace: run apply again when it is gone"
	case apierrors.IsForbidden(err) && strings.Contains(message, quotaExceeded):
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "a ResourceQuota of the namespace, which the message names, is used up"
	case apierrors.IsForbidden(err):
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs a role in the cluster that allows this (kubectl auth can-i says which it has)"
	case apierrors.IsUnauthorized(err):
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the cluster does not know this identity: its credentials were perhaps rotated; run it again"
	case apierrors.IsConflict(err):
		failure.Reason = reconcile.ReasonConflict
		failure.Hint = "somebody else changed it at the same moment: run it again"
	case apierrors.IsNotFound(err):
		failure.Reason = reconcile.ReasonNotFound
	case apierrors.IsTooManyRequests(err):
		failure.Reason = reconcile.ReasonThrottled
		failure.Hint = "the cluster's API server has too much to do: run it again in a minute"
	case errors.As(err, &network):
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "the cluster's API server cannot be reached: is the cluster running, and may this address reach it? (a private cluster is reached from its own network only, one with authorized IP ranges from those)"
	case serverBroken(err):
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "the cluster's API server answered this to every retry: run it again later"
	default:
		return failure.Err
	}
	return failure
}

// serverBroken tells of an answer of the 5xx family.
func serverBroken(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Code >= 500
}
