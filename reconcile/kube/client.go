package kube

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/amlaks/amlaks/reconcile/retry"
)

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
	// Retry-After is obeyed. How long a request may take is for patient to say.
	config.QPS, config.Timeout = -1, 0
	config.UserAgent = "amlaks"
	if wrap != nil {
		config.Wrap(wrap)
	}
	config.Wrap(patient)
	if readOnly {
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return readOnlyTransport{next} })
	}
	dynamicClient, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	compact := rest.CopyConfig(config)
	compact.ContentType = runtime.ContentTypeProtobuf
	compact.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	typed, err := kubernetes.NewForConfig(compact)
	if err != nil {
		return nil, err
	}
	return &client{dynamic: dynamicClient, typed: typed}, nil
}

// patient sends a request again while the API server restarts, is overloaded or cannot reach
// its store. What this package writes may be sent twice: applies and deletions say what is to
// be there, under a resourceVersion or UID where that matters. The lock is not: its elector
// tries again itself, and must know when it has not renewed it.
func patient(next http.RoundTripper) http.RoundTripper {
	return &retry.Transport{
		Next: next, Peer: "the API server", Restarts: true,
		Again: func(r *http.Request) bool {
			return r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/apis/coordination.k8s.io/")
		},
		// An object that is not of its kind's shape is answered with 500 (apimachinery's
		// typed patch), for ever.
		// What a disruption budget does not allow may last: who evicts says so and waits.
		Lasting: func(content []byte) bool {
			return bytes.Contains(content, []byte("disruption budget")) || bytes.Contains(content, []byte("more than one PodDisruptionBudget")) ||
				bytes.Contains(content, []byte("failed to create typed patch object")) || bytes.Contains(content, []byte("failed to convert new object"))
		},
		Stream: func(r *http.Request) bool { return r.URL.Query().Get("follow") == "true" },
	}
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
