package main

import (
	"strings"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const (
	forEver = 1 << 20
	// longer than any run: only who asks again, or gives up, gets on.
	stalled = sandbox.Duration(time.Hour)
	second  = sandbox.Duration(time.Second)
	minute1 = sandbox.Duration(61 * time.Second)
)

// The stacks of the matrix.
const (
	faultCluster = stackHead + `clusters:
  - name: prod
    purpose: DevTest
    agentCount: 1
    frontEnd: {port: 8080}
    protect: false
`
	taggedCluster  = faultCluster + "    tags: {cell: \"CELL\"}\n"
	clusterAndPool = faultCluster + "    nodePools: [{name: gpu, vmSize: Standard_NC4as_T4_v3, agentCount: 1}]\n"

	aService = `  - name: NAME
    cluster: prod
    models: [{name: churn, version: 1, path: ./model}]
    resources: {cpu: 0.1, memoryInGB: 0.1}
    numReplicas: 1
    inference: {sourceDirectory: score, command: [./server], baseImage: scratch`
)

var (
	withService    = faultCluster + "services:\n" + named("churn") + "}\n"
	changedService = faultCluster + "services:\n" + named("churn") + ", environmentVariables: {N: \"CELL\"}}\n"
	twoServices    = withService + named("second") + "}\n"
)

func named(name string) string { return strings.ReplaceAll(aService, "NAME", name) }

// --- Azure Resource Manager

var armRows = []faultRow{
	{
		verb: "create", what: "a cluster", service: "arm", method: "PUT", path: "managedClusters/prod$",
		after: faultCluster, lay: destroyed,
		run: []string{"apply", "--yes", "--only", "cluster/prod"}, check: onlyCluster,
	},
	{
		verb: "update", what: "a cluster", service: "arm", method: "PUT", path: "managedClusters/prod$",
		before: faultCluster, after: taggedCluster, make: []string{"apply", "--yes", "--only", "cluster/prod"},
		run: []string{"apply", "--yes", "--only", "cluster/prod"}, check: onlyCluster,
	},
	{
		verb: "delete", what: "a pool", service: "arm", method: "DELETE", path: "agentPools/gpu$",
		before: clusterAndPool, after: faultCluster,
		run: []string{"apply", "--yes", "--prune"}, check: []string{"plan", "--prune", "--detailed-exitcode"},
	},
	{
		verb: "delete", what: "a cluster", service: "arm", method: "DELETE", path: "managedClusters/prod$",
		before: faultCluster, after: faultCluster, make: []string{"apply", "--yes", "--only", "cluster/prod"},
		run: []string{"destroy", "--yes", "STACK"}, check: []string{"destroy", "--yes", "STACK"},
	},
	{
		verb: "read", what: "the clusters", service: "arm", method: "GET", path: "managedClusters$",
		before: faultCluster, after: faultCluster, make: []string{"apply", "--yes", "--only", "cluster/prod"},
		run: onlyCluster, check: onlyCluster,
	},
	{
		verb: "read", what: "a kubeconfig, for status", service: "arm", method: "POST", path: "listClusterAdminCredential$",
		before: faultCluster, after: faultCluster, make: []string{"apply", "--yes", "--only", "cluster/prod"},
		run: []string{"status"}, check: []string{"status"},
	},
}

var onlyCluster = []string{"plan", "--detailed-exitcode", "--only", "cluster/prod"}

// Not here: 409 and 412 on reads, which have no condition and start nothing; operations on
// reads, for the same reason; 429 in 61 s on reads, which have no --timeout to end them: one of
// them is really waited for in TestAskedToWaitAMinute.
var armColumns = []column{
	{"429, in 1 s", sandbox.Fault{Status: 429, RetryAfter: second}, "cudr", nil, converges, "Azure asks to wait 1s (HTTP 429)"},
	{"429, in 61 s", sandbox.Fault{Status: 429, RetryAfter: minute1}, "cud", short, end{exitNotHealthy, reconcile.ReasonNotHealthy, "raise --timeout"}, "Azure asks to wait 1m1s (HTTP 429)"},
	{"429 for ever", sandbox.Fault{Status: 429, RetryAfter: second, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonThrottled, "Azure's request budget is used up"}, "Azure asks to wait 1s"},
	{"409 OperationNotAllowed, twice", sandbox.Fault{Status: 409, Code: "OperationNotAllowed", Count: 2}, "cud", nil, converges, "waiting for another operation on it to end"},
	{"409 OperationNotAllowed for ever", sandbox.Fault{Status: 409, Code: "OperationNotAllowed", Count: forEver}, "cud", short, end{exitNotHealthy, reconcile.ReasonNotHealthy, "raise --timeout"}, "waiting for another operation on it to end"},
	{"412", sandbox.Fault{Status: 412}, "cud", nil, converges, ""},
	{"500, twice", sandbox.Fault{Status: 500, Count: 2}, "cudr", nil, converges, "Azure answered HTTP 500; trying again"},
	{"500 for ever", sandbox.Fault{Status: 500, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonUnavailable, "Azure answered this to every retry"}, "Azure answered HTTP 500; trying again"},
	{"reset before, thrice", sandbox.Fault{Reset: "before", Count: 3}, "cudr", nil, converges, "the connection was"},
	{"reset after", sandbox.Fault{Reset: "after"}, "cud", nil, converges, ""},
	{"stall", sandbox.Fault{Stall: stalled}, "cudr", nil, converges, "no answer within 3s; trying again"},
	{"stall for ever", sandbox.Fault{Stall: stalled, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonUnavailable, "check the network"}, "Azure does not answer: no answer within 3s"},
	{"operation fails", sandbox.Fault{Operation: "failed:SkuNotAvailable"}, "cud", nil, end{exitError1, reconcile.ReasonOperationFailed, "Azure gave up the operation"}, "SkuNotAvailable"},
	{"operation never ends", sandbox.Fault{Operation: "never"}, "cud", short, end{exitNotHealthy, reconcile.ReasonNotHealthy, "it may still be going on: run apply again to join it"}, "not done within 6s"},
	{"403", sandbox.Fault{Status: 403}, "cudr", nil, end{exitError1, reconcile.ReasonForbidden, "the identity needs Azure Kubernetes Service"}, "AuthorizationFailed"},
}

// short ends what would be waited for.
var short = []string{"--timeout", "6s"}

// --- the registry

var registryRows = []faultRow{
	{
		verb: "create", what: "an upload", service: "registry", method: "POST", path: "/churn/blobs/uploads/",
		after: withService, lay: freshModel, run: applyImage, check: onlyImage, skip: []string{"truncated upload"},
	},
	{
		verb: "create", what: "a layer", service: "registry", method: "PATCH", path: "/churn/blobs/uploads/",
		after: withService, lay: freshModel, run: applyImage, check: onlyImage,
	},
	{
		verb: "create", what: "a tag", service: "registry", method: "PUT", path: "/churn/manifests/in-",
		after: withService, lay: freshModel, run: applyImage, check: onlyImage, skip: []string{"truncated upload"},
	},
	{
		verb: "update", what: "a repository", service: "registry", method: "PUT", path: "/churn/blobs/uploads/",
		before: withService, after: withService, make: applyImage, lay: freshModel, run: applyImage, check: onlyImage,
	},
	{
		verb: "read", what: "a tag", service: "registry", method: "HEAD", path: "/churn/manifests/in-",
		before: withService, after: withService, make: applyImage, run: onlyImage, check: onlyImage,
	},
}

var (
	applyImage = []string{"apply", "--yes", "--only", "image/churn"}
	onlyImage  = []string{"plan", "--detailed-exitcode", "--only", "image/churn"}
)

// Not here: deletions, because an image is never deleted; 409 and 412, because a push is under
// no condition; operations, which registries do not have.
var registryColumns = []column{
	{"429, in 1 s", sandbox.Fault{Status: 429, RetryAfter: second}, "cur", nil, converges, "the registry asks to wait 1s (HTTP 429)"},
	{"429, in 61 s", sandbox.Fault{Status: 429, RetryAfter: minute1}, "cu", short, end{exitNotHealthy, reconcile.ReasonNotHealthy, "raise --timeout"}, "the registry asks to wait 1m1s (HTTP 429)"},
	{"429 for ever", sandbox.Fault{Status: 429, RetryAfter: second, Count: forEver}, "cur", nil, end{exitError1, reconcile.ReasonThrottled, "the registry's request budget is used up"}, "the registry asks to wait 1s"},
	{"500, twice", sandbox.Fault{Status: 500, Count: 2}, "cur", nil, converges, "trying again"},
	{"500 for ever", sandbox.Fault{Status: 500, Count: forEver}, "cur", nil, end{exitError1, reconcile.ReasonUnavailable, "the registry answered this to every retry"}, "trying again"},
	{"reset before, thrice", sandbox.Fault{Reset: "before", Count: 3}, "cur", nil, converges, "trying again"},
	{"reset after", sandbox.Fault{Reset: "after"}, "cu", nil, converges, ""},
	{"truncated upload", sandbox.Fault{Reset: "middle"}, "c", nil, converges, "trying again"},
	{"stall", sandbox.Fault{Stall: stalled}, "cur", nil, converges, "no answer within 3s; trying again"},
	{"stall for ever", sandbox.Fault{Stall: stalled, Count: forEver}, "cur", nil, end{exitError1, reconcile.ReasonUnavailable, "may this machine reach it?"}, "no answer within 3s"},
	{"403", sandbox.Fault{Status: 403}, "cur", nil, end{exitError1, reconcile.ReasonForbidden, "the identity needs AcrPush"}, ""},
}

// --- Kubernetes

var kubeRows = []faultRow{
	{
		verb: "create", what: "a Deployment", service: "kube", method: "PATCH", path: "/deployments/churn$",
		before: withService, after: withService, lay: dropDeployment, run: applyAll, check: planAll,
	},
	{
		verb: "update", what: "a Deployment", service: "kube", method: "PATCH", path: "/deployments/churn$",
		before: withService, after: changedService, run: applyAll, check: planAll,
	},
	{
		verb: "delete", what: "a Deployment", service: "kube", method: "DELETE", path: "/deployments/second$",
		before: twoServices, after: withService, run: applyAll, check: planAll, partial: true,
	},
	{
		verb: "read", what: "the Deployments", service: "kube", method: "GET", path: "/deployments$",
		before: withService, after: withService, run: planAll, check: planAll,
	},
	{
		verb: "read", what: "a dry-run", service: "kube", method: "DRY-RUN", path: "/deployments/churn$",
		before: withService, after: changedService, run: planAll, check: applyAll, pending: exitPending,
	},
	{
		verb: "read", what: "a Deployment, for status", service: "kube", method: "GET", path: "/deployments/churn$",
		before: withService, after: withService, run: []string{"status"}, check: []string{"status"},
	},
}

var (
	applyAll = []string{"apply", "--yes", "--prune"}
	planAll  = []string{"plan", "--prune", "--detailed-exitcode"}
)

// Not here: 412, which an API server does not answer (it is 409 there); operations, which it
// does not have: what takes time there are rollouts and finalizers, see faults_kube_test.go,
// and so are the restart of the API server and admission.
var kubeColumns = []column{
	{"429, in 1 s", sandbox.Fault{Status: 429, RetryAfter: second}, "cudr", nil, converges, "the API server asks to wait 1s (HTTP 429)"},
	{"429, in 61 s", sandbox.Fault{Status: 429, RetryAfter: minute1}, "cud", short, end{exitNotHealthy, reconcile.ReasonNotHealthy, "raise --timeout"}, "the API server asks to wait 1m1s (HTTP 429)"},
	{"429 for ever", sandbox.Fault{Status: 429, RetryAfter: second, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonThrottled, "API server has too much to do"}, "the API server asks to wait 1s"},
	{"409", sandbox.Fault{Status: 409}, "cud", nil, converges, ""},
	{"500, twice", sandbox.Fault{Status: 500, Count: 2}, "cudr", nil, converges, "the API server: HTTP 500; trying again"},
	{"500 for ever", sandbox.Fault{Status: 500, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonUnavailable, "API server answered this to every retry"}, "the API server: HTTP 500; trying again"},
	{"reset before, thrice", sandbox.Fault{Reset: "before", Count: 3}, "cudr", nil, converges, "the API server: the connection was"},
	{"reset after", sandbox.Fault{Reset: "after"}, "cud", nil, converges, ""},
	{"stall", sandbox.Fault{Stall: stalled}, "cudr", nil, converges, "the API server: no answer within 3s; trying again"},
	{"stall for ever", sandbox.Fault{Stall: stalled, Count: forEver}, "cudr", nil, end{exitError1, reconcile.ReasonUnavailable, "API server cannot be reached"}, "the API server does not answer: no answer within 3s"},
	{"403", sandbox.Fault{Status: 403}, "cudr", nil, end{exitError1, reconcile.ReasonForbidden, "the identity needs a role in the cluster"}, ""},
}
