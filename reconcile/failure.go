package reconcile

import "errors"

// Reason is a stable word for why something failed, to search for and to branch on.
// Those that Azure ML's own documentation uses keep its names.
type Reason string

// The reasons.
const (
	ReasonForbidden        Reason = "Forbidden"        // the identity lacks a role
	ReasonThrottled        Reason = "Throttled"        // still 429 after every retry
	ReasonConflict         Reason = "Conflict"         // another operation is in progress
	ReasonUnavailable      Reason = "Unavailable"      // the service cannot be reached or answers 5xx
	ReasonNotFound         Reason = "NotFound"         // something the file refers to does not exist
	ReasonOperationFailed  Reason = "OperationFailed"  // a long-running operation ended as failed
	ReasonNotHealthy       Reason = "NotHealthy"       // applied, but not ready in time
	ReasonUnschedulable    Reason = "PodUnschedulable" // no node has room
	ReasonImagePull        Reason = "ImagePullLoopBackOff"
	ReasonCrashLoop        Reason = "DeploymentCrashLoopBackOff"
	ReasonOwned            Reason = "OwnedByAnother" // bears another stack's name, or nobody's
	ReasonProtected        Reason = "Protected"
	ReasonImmutable        Reason = "Immutable"
	ReasonInterrupted      Reason = "Interrupted"
	ReasonStale            Reason = "Stale"       // changed since it was observed
	ReasonInvalidPlan      Reason = "InvalidPlan" // a saved plan that cannot be used
	ReasonTooManyDeletes   Reason = "TooManyDeletes"
	ReasonLocked           Reason = "Locked" // another run works on the stack
	ReasonDependencyFailed Reason = "DependencyFailed"
	ReasonUnsupported      Reason = "Unsupported"     // Azure does not have it there: a version, a VM size
	ReasonTooSmall         Reason = "ClusterTooSmall" // fewer vCPU than the cluster's purpose needs
	ReasonOutOfQuota       Reason = "OutOfQuota"
	ReasonExpires          Reason = "CertificateExpires"
	ReasonCertificate      Reason = "InvalidCertificate" // clients would not accept it
	ReasonCost             Reason = "CostEstimate"
	ReasonEvictionBlocked  Reason = "EvictionBlocked" // a disruption budget, or a pod without a controller, keeps a node from being emptied
)

// Failure is an error with a reason to branch on and a hint on what to do.
// Its Error is that of Err: where it happened is added by whoever knows.
type Failure struct {
	Reason Reason
	Err    error
	Hint   string
}

func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// ReasonOf is the reason in err's chain, or "".
func ReasonOf(err error) Reason {
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f.Reason
	}
	return ""
}

// HintOf is the hint in err's chain, or "".
func HintOf(err error) string {
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f.Hint
	}
	return ""
}
