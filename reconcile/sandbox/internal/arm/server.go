// Package arm is the sandbox's Azure Resource Manager: a stateful http.Handler that the
// unmodified clients of the Azure SDK accept. It knows AKS clusters and their node pools
// (with long-running operations, paging, entity tags and the refusals of the real one), a
// workspace with what it is made of (storage account, key vault, Application Insights,
// registry), its computes, registered models, and role assignments.
package arm

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	defaultPageSize = 50
	// A write takes a moment even when there is nothing to start, so that clients meet
	// resources in the middle of an operation.
	defaultOperationTime = 150 * time.Millisecond
	maxBody              = 4 << 20 // what ARM takes
)

// Pool is a node pool, as far as nodes are made of it.
type Pool struct {
	Name, VMSize string
	Count        int
	Labels       map[string]string
	Taints       []string
}

// Kubernetes is what runs behind the managed clusters. Each call may be repeated.
type Kubernetes interface {
	// Apply returns when the cluster is there and has exactly these pools.
	Apply(ctx context.Context, id string, pools []Pool) error
	// Kubeconfig is that of a cluster that Apply has made.
	Kubeconfig(id string) ([]byte, error)
	// Remove ends the cluster and forgets it.
	Remove(ctx context.Context, id string) error
}

// Config of a Server.
type Config struct {
	Endpoint       string // http://127.0.0.1:PORT, for the links it gives out
	Token          string // the bearer token it wants
	SubscriptionID string // the one of the workspace
	// Subscriptions are further ones, for clusters alone.
	Subscriptions []string
	File          string // its state
	LoginServer   string // host:port of every container registry
	BlobHost      string // host:port of every storage account
	Kubernetes    Kubernetes
	Logf          func(string, ...any)
	PageSize      int           // of lists; 0: 50
	OperationTime time.Duration // the least that an operation takes; 0: 150 ms
}

// Server is the emulator. Close it after its last request.
type Server struct {
	config  Config
	ctx     context.Context // of the operations
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu    sync.Mutex
	state state
	stale map[string]*staleRead // by key; a restart forgets it
	late  int                   // lists that do not show the newest role assignments yet
}

// New reads the state and goes on with the operations that were cut short.
func New(config Config) (*Server, error) {
	if config.PageSize == 0 {
		config.PageSize = defaultPageSize
	}
	if config.OperationTime == 0 {
		config.OperationTime = defaultOperationTime
	}
	s := &Server{config: config, stale: map[string]*staleRead{}}
	if err := s.load(); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.state.Operations {
		if op.Status == inProgress && !op.Never {
			s.run(op)
		}
	}
	return s, nil
}

// Close stops waiting for operations; the next New goes on with them.
func (s *Server) Close() {
	s.cancel()
	s.running.Wait()
}

// apiError is a refusal in ARM's form.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refusal(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// Refuse writes an error in ARM's form. All of Azure's errors have the id of their request.
func Refuse(w http.ResponseWriter, status int, code, message string) {
	if w.Header().Get("X-Ms-Request-Id") == "" {
		w.Header().Set("X-Ms-Request-Id", uuid.NewString())
	}
	reply(w, status, map[string]any{"error": map[string]any{"code": code, "message": message}})
}

func reply(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if value != nil {
		_ = json.NewEncoder(w).Encode(value) // the client has gone away
	}
}

// ServeHTTP answers one request of an ARM client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	w.Header().Set("X-Ms-Request-Id", s.uuid("request"))
	s.mu.Unlock()
	if r.URL.Path == pricesPath {
		s.listPrices(w, r)
		return
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !bearer || subtle.ConstantTimeCompare([]byte(token), []byte(s.config.Token)) != 1 {
		Refuse(w, http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing or its token is not that of this sandbox.")
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		Refuse(w, http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	if err := s.route(w, r); err != nil {
		Refuse(w, err.status, err.code, err.message)
	}
}

// request is one with its path in pieces; segments are compared in lower case, as ARM does,
// and names keep the case they came in.
type request struct {
	*http.Request
	parts []string // lower case
	names []string // as sent
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) *apiError {
	path := strings.Trim(r.URL.Path, "/")
	req := &request{Request: r, parts: strings.Split(strings.ToLower(path), "/"), names: strings.Split(path, "/")}
	p := req.parts
	if p[0] != "subscriptions" {
		return noRoute(r)
	}
	if len(p) == 1 {
		return s.listSubscriptions(w, req)
	}
	if len(p) == 2 {
		return s.getSubscription(w, req)
	}
	if !slices.ContainsFunc(s.subscriptions(), func(id string) bool { return strings.EqualFold(id, p[1]) }) {
		return refusal(http.StatusNotFound, "SubscriptionNotFound", "The subscription '%s' could not be found.", req.names[1])
	}
	if scope, rest, ok := roleAssignments(req); ok {
		return s.routeRoles(w, req, scope, rest)
	}
	switch {
	case len(p) == 5 && p[2] == "providers" && p[4] == "registries":
		return s.listStored(w, req)
	case len(p) >= 5 && p[2] == "providers" && p[3] == "microsoft.containerservice":
		switch {
		case p[4] == "managedclusters" && len(p) == 5:
			return s.listClusters(w, req, "/subscriptions/"+p[1]+"/")
		case p[4] == "locations" && len(p) == 8 && p[6] == "operations":
			return s.getOperation(w, req, p[7])
		case p[4] == "locations" && len(p) == 7 && p[6] == "kubernetesversions":
			return s.listVersions(w, req)
		}
	case len(p) == 8 && p[2] == "providers" && p[4] == "locations" && p[6] == "operations":
		return s.getOperation(w, req, p[7])
	case len(p) == 8 && p[2] == "providers" && p[4] == "locations" && p[6] == "asyncoperations":
		return s.getResult(w, req, p[7])
	case len(p) >= 4 && p[2] == "providers" && p[3] == "microsoft.compute":
		return s.routeCompute(w, req)
	case len(p) >= 4 && p[2] == "resourcegroups":
		if len(p) == 4 {
			return s.getGroup(w, req)
		}
		if len(p) >= 7 && p[4] == "providers" {
			if p[5] == "microsoft.containerservice" && p[6] == "managedclusters" {
				return s.routeCluster(w, req)
			}
			if len(p) == 10 && p[6] == "workspaces" && p[8] == "computes" && r.Method != http.MethodGet {
				return s.routeMLCompute(w, req)
			}
			if m := makers[p[5]+"/"+p[6]]; m != nil && len(p) == 8 && r.Method != http.MethodGet {
				return s.routeMade(w, req, m)
			}
			switch p[5] {
			case "microsoft.machinelearningservices":
				return s.routeML(w, req)
			case "microsoft.keyvault", "microsoft.insights", "microsoft.containerregistry", "microsoft.storage":
				return s.getStored(w, req)
			}
		}
	}
	return noRoute(r)
}

func (s *Server) routeCluster(w http.ResponseWriter, r *request) *apiError {
	p := r.parts
	switch {
	case len(p) == 7:
		return s.listClusters(w, r, "/"+strings.Join(p, "/")+"/")
	case len(p) == 8:
		switch r.Method {
		case http.MethodGet:
			return s.getCluster(w, r)
		case http.MethodPut:
			return s.putCluster(w, r)
		case http.MethodPatch:
			return s.patchCluster(w, r)
		case http.MethodDelete:
			return s.deleteCluster(w, r)
		}
		return badMethod(r)
	case len(p) == 9 && p[8] == "agentpools":
		return s.listPools(w, r)
	case len(p) == 9 && (p[8] == "listclusteradmincredential" || p[8] == "listclusterusercredential"):
		return s.listCredential(w, r)
	case len(p) == 9 && p[8] == "abort":
		return s.abort(w, r)
	case len(p) == 10 && p[8] == "agentpools":
		switch r.Method {
		case http.MethodGet:
			return s.getPool(w, r)
		case http.MethodPut:
			return s.putPool(w, r)
		case http.MethodDelete:
			return s.deletePool(w, r)
		}
		return badMethod(r)
	}
	return noRoute(r.Request)
}

func (s *Server) subscriptions() []string {
	return append([]string{s.config.SubscriptionID}, s.config.Subscriptions...)
}

func (s *Server) listSubscriptions(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	all := []body{}
	for _, id := range s.subscriptions() {
		all = append(all, subscription(id))
	}
	return s.page(w, r, all)
}

func (s *Server) getSubscription(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	reply(w, http.StatusOK, subscription(r.names[1]))
	return nil
}

// tenantID is that of all subscriptions and identities.
const tenantID = "22222222-2222-2222-2222-222222222222"

func subscription(id string) body {
	return body{"id": "/subscriptions/" + id, "subscriptionId": id, "tenantId": tenantID, "displayName": "sandbox", "state": "Enabled"}
}

// getGroup answers for a resource group: all of them exist.
func (s *Server) getGroup(w http.ResponseWriter, r *request) *apiError {
	switch r.Method {
	case http.MethodHead:
		w.WriteHeader(http.StatusNoContent)
	case http.MethodGet, http.MethodPut:
		reply(w, http.StatusOK, body{
			"id": "/" + strings.Join(r.names, "/"), "name": r.names[3], "type": "Microsoft.Resources/resourceGroups",
			"location": Location, "properties": body{"provisioningState": succeeded},
		})
	default:
		return badMethod(r)
	}
	return nil
}

func noRoute(r *http.Request) *apiError {
	return refusal(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found for the path '%s'.", r.URL.Path)
}

func badMethod(r *request) *apiError {
	return refusal(http.StatusMethodNotAllowed, "HttpMethodNotSupported", "The HTTP method '%s' is not supported at scope '%s'.", r.Method, r.URL.Path)
}

func notFound(id string) *apiError {
	return refusal(http.StatusNotFound, "ResourceNotFound", "The Resource '%s' was not found.", id)
}

// uuid makes an identifier that is the same in every run: the n-th of the state's life.
func (s *Server) uuid(kind string) string {
	s.state.Count++
	return madeUUID(fmt.Sprintf("%s %d", kind, s.state.Count))
}

// page writes a list, a page of it at a time.
func (s *Server) page(w http.ResponseWriter, r *request, all []body) *apiError {
	from := 0
	if token := r.URL.Query().Get("$skipToken"); token != "" {
		if _, err := fmt.Sscanf(token, "%d", &from); err != nil || from < 0 || from > len(all) {
			return refusal(http.StatusBadRequest, "InvalidSkipToken", "The skip token '%s' is not one of this list.", token)
		}
	}
	to := min(from+s.config.PageSize, len(all))
	answer := body{"value": append([]body{}, all[from:to]...)}
	if to < len(all) {
		query := r.URL.Query()
		query.Set("$skipToken", fmt.Sprint(to))
		answer["nextLink"] = s.config.Endpoint + r.URL.Path + "?" + query.Encode()
	}
	reply(w, http.StatusOK, answer)
	return nil
}
