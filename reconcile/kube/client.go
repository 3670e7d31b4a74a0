package kube

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile"
)

// requestTimeout bounds a request, its answer included.
const requestTimeout = 60 * time.Second

// client reaches one cluster.
type client struct {
	dynamic dynamic.Interface
	typed   kubernetes.Interface

	mu       sync.Mutex
	rollouts map[string]*rollouts // by namespace
}

func newClient(kubeconfig string, readOnly bool, wrap func(http.RoundTripper) http.RoundTripper) (*client, error) {
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(kubeconfig))
	if err != nil {
		return nil, errors.New("read the cluster's kubeconfig: it is not one") // the cause may quote it
	}
	// What is bounded is how many requests are under way, by the engine's parallelism and dryRuns.
	// A limit a second, which client-go has for want of a better one, adds nothing to that but
	// time: an API server shares itself out (API Priority and Fairness), and its 429 with
	// Retry-After is obeyed.
	config.QPS, config.Timeout = -1, requestTimeout
	config.UserAgent = "amlaks"
	if wrap != nil {
		config.Wrap(wrap)
	}
	if readOnly {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return readOnlyTransport{next} })
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	streaming := rest.CopyConfig(config)
	streaming.Timeout = 0 // a followed log has no end; everything else has its context's
	streaming.ContentType = runtime.ContentTypeProtobuf
	streaming.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	typed, err := kubernetes.NewForConfig(streaming)
	if err != nil {
		return nil, err
	}
	return &client{dynamic: dynamicClient, typed: typed}, nil
}

// readOnlyTransport is promise 1 of the design: a plan reads, and asks for dry-runs.
type readOnlyTransport struct{ next http.RoundTripper }

func (t readOnlyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	dryRun := r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == "All"
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !dryRun {
		return nil, fmt.Errorf("%s %s refused: this command only reads", r.Method, r.URL.Path)
	}
	return t.next.RoundTrip(r)
}

// kind is one of the kinds that amlaks writes.
type kind string

const (
	kindNamespace      kind = "Namespace"
	kindServiceAccount kind = "ServiceAccount"
	kindRole           kind = "Role"
	kindRoleBinding    kind = "RoleBinding"
	kindConfigMap      kind = "ConfigMap"
	kindSecret         kind = "Secret"
	kindService        kind = "Service"
	kindDeployment     kind = "Deployment"
)

// kinds are all of them but the namespace, which everything else lives in.
var kinds = []kind{kindServiceAccount, kindRole, kindRoleBinding, kindConfigMap, kindSecret, kindService, kindDeployment}

func (k kind) resource() schema.GroupVersionResource {
	switch k {
	case kindNamespace:
		return schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	case kindServiceAccount:
		return schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}
	case kindRole:
		return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "roles"}
	case kindRoleBinding:
		return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
	case kindConfigMap:
		return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	case kindSecret:
		return schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	case kindService:
		return schema.GroupVersionResource{Version: "v1", Resource: "services"}
	default:
		return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	}
}

// objects is the API for one kind in a namespace.
func (c *client) objects(k kind, namespace string) dynamic.ResourceInterface {
	if k == kindNamespace {
		return c.dynamic.Resource(k.resource())
	}
	return c.dynamic.Resource(k.resource()).Namespace(namespace)
}

// explain says what an error of the API server means for whoever runs amlaks.
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: %w", doing, err)}
	var network *url.Error
	var operation *net.OpError
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "an admission policy or RBAC refused it: the message names which"
	case apierrors.IsConflict(err):
		failure.Reason = reconcile.ReasonConflict
		failure.Hint = "somebody else changed it at the same moment: run it again"
	case apierrors.IsNotFound(err):
		failure.Reason = reconcile.ReasonNotFound
	case apierrors.IsTooManyRequests(err):
		failure.Reason = reconcile.ReasonThrottled
	case errors.As(err, &network), errors.As(err, &operation), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "the cluster's API server cannot be reached: is the cluster running, and may this address reach it?"
	default:
		return failure.Err
	}
	return failure
}
