package azure_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// A token in the environment goes to this machine alone.
func TestConnectLoopbackOnly(t *testing.T) {
	t.Parallel()
	for endpoint, ok := range map[string]bool{
		"http://127.0.0.1:8080": true, "http://localhost:8080": true, "http://[::1]:8080": true, "https://127.8.0.1": true,
		"https://management.azure.com": false, "http://10.0.0.1:8080": false, "http://127.0.0.1.example.com": false,
		"http://127.0.0.1@example.com": false, "http://example.com#127.0.0.1": false, "http://localhost.example.com": false,
		"http://0.0.0.0:8080": false, "127.0.0.1:8080": false, "//127.0.0.1@example.com": false, "http://": false,
	} {
		environment := map[string]string{azure.EndpointVariable: endpoint, azure.TokenVariable: "the-token"}
		connection, err := azure.Connect(func(name string) string { return environment[name] }, version, false, azure.Identity{})
		if (err == nil) != ok || (connection != nil) != ok {
			t.Errorf("%s: %v, want accepted %v", endpoint, err, ok)
		}
		if err != nil && strings.Contains(err.Error(), "the-token") {
			t.Errorf("%s: the token is in the error: %v", endpoint, err)
		}
	}
}

// Without an endpoint the token is not looked at: Azure's own identities are.
func TestConnectAzure(t *testing.T) {
	t.Parallel()
	connection, err := azure.Connect(func(name string) string {
		if name == azure.TokenVariable {
			t.Error("the token was read")
		}
		return ""
	}, version, true, azure.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	if connection.Options.InsecureAllowCredentialWithHTTP || connection.Options.Cloud.Services[cloud.ResourceManager].Endpoint != "https://management.azure.com" {
		t.Error("a connection to Azure is not as strict as the SDK makes it")
	}
}

// The token is given to Resource Manager and the storage behind it, and to no other service:
// a registry's client, for one, would take it to the registry.
func TestTokenScope(t *testing.T) {
	t.Parallel()
	const endpoint = "http://127.0.0.1:8080"
	environment := map[string]string{azure.EndpointVariable: endpoint, azure.TokenVariable: "the-token"}
	connection, err := azure.Connect(func(name string) string { return environment[name] }, version, false, azure.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	for scope, ok := range map[string]bool{
		endpoint + "/.default": true, "https://storage.azure.com/.default": true,
		"https://containerregistry.azure.net/.default": false, "https://vault.azure.net/.default": false,
		"https://management.azure.com/.default": false,
	} {
		token, err := connection.Credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
		if (err == nil) != ok || (token.Token == "the-token") != ok {
			t.Errorf("%s: given %v, %v; want given %v", scope, token.Token != "", err, ok)
		}
	}
}

// Links in answers, and redirections, do not take the token anywhere.
func TestTokenStays(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var leaked []string
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if got := r.Header.Get("Authorization"); got != "" {
			leaked = append(leaked, r.Host)
		}
		fmt.Fprint(w, `{"value": []}`)
	}))
	defer elsewhere.Close()
	u, err := url.Parse(elsewhere.URL)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter, r *http.Request)
		want   string
	}{
		"next page": {func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"value": [], "nextLink": "http://management.example.invalid/more?api-version=1"}`)
		}, "loopback addresses alone"},
		// Another name of this machine is another host to an HTTP client, which drops credentials then.
		"redirection": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:"+u.Port()+"/", http.StatusTemporaryRedirect)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/managedClusters") {
					test.answer(w, r)
					return
				}
				fmt.Fprint(w, `{"location": "westeurope", "properties": {"containerRegistry": "/x", "loginServer": "127.0.0.1:5000"}}`)
			}))
			defer server.Close()
			environment := map[string]string{azure.EndpointVariable: server.URL, azure.TokenVariable: "the-token"}
			connection, err := azure.Connect(func(name string) string { return environment[name] }, version, true, azure.Identity{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = (&world{t: t}).open(connection, small(onePool), reconcile.Options{})
			if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "the-token") {
				t.Errorf("the token is in the error: %v", err)
			}
		})
	}
	if len(leaked) != 0 {
		t.Errorf("the token went to %q", leaked)
	}
}

// A connection that only reads sees everything, credentials too, and sends no write.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(small(onePool), reconcile.Options{})
	w.ClearRequests()
	for name, test := range map[string]struct {
		stack   string
		options reconcile.Options
	}{
		"create":  {clusters("- {name: prod, purpose: DevTest, protect: false}\n- {name: more, purpose: DevTest}"), reconcile.Options{}},
		"update":  {small("agentCount: 2", "tags: {cost: a}"), reconcile.Options{}},
		"destroy": {small(onePool), reconcile.Options{Destroy: true}},
	} {
		s, err := w.open(w.connect(true), test.stack, test.options)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.known["cluster/prod"][azure.OutputKubeconfig]; got != kubeconfig {
			t.Errorf("%s: the kubeconfig is %q", name, got)
		}
		if s.plan.Pending() == 0 {
			t.Errorf("%s: nothing to do", name)
		}
		for _, o := range s.apply(t.Context()).Outcomes {
			if o.Change.Action.Pending() && (o.Phase != reconcile.Failed && o.Phase != reconcile.Skipped) {
				t.Errorf("%s: %s is %s", name, o.Change.Address, o.Phase)
			}
			if o.Phase == reconcile.Failed && !strings.Contains(o.Err.Error(), "only reads") {
				t.Errorf("%s: %v", name, o.Err)
			}
		}
		got, err := s.driver.Kubeconfig(t.Context(), "prod")
		if err != nil || got != kubeconfig {
			t.Errorf("Kubeconfig: %q, %v", got, err)
		}
	}
	w.wantWrites()
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
	s := w.plan(clusters("- {name: prod, purpose: DevTest}\n"+attach("shared", "existing")), reconcile.Options{})
	if got, err := s.driver.Kubeconfig(t.Context(), "shared"); got != kubeconfig || err != nil {
		t.Errorf("attached: %q, %v", got, err)
	}
	if _, err := s.driver.Kubeconfig(t.Context(), "prod"); reconcile.ReasonOf(err) != reconcile.ReasonNotFound {
		t.Errorf("not made yet: %v, reason %q", err, reconcile.ReasonOf(err))
	}
	if _, err := s.driver.Kubeconfig(t.Context(), "unheard"); err == nil || !strings.Contains(err.Error(), "unheard") {
		t.Errorf("not in the file: %v", err)
	}
}

// Lists come in pages; what is on the last counts as much as what is on the first.
func TestPages(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *sandbox.Options) { o.PageSize = 1 })
	var lines []string
	for _, name := range []string{"aaa", "bbb", "ccc", "ddd"} {
		lines = append(lines, "- {name: "+name+", purpose: DevTest, protect: false}")
	}
	stack := clusters(strings.Join(lines, "\n"))
	w.converge(stack, reconcile.Options{})
	w.wantSteady(stack, reconcile.Options{})
	pages := 0
	for _, r := range w.Requests("arm") {
		if r.Method == http.MethodGet && strings.HasSuffix(r.Path, "/managedClusters") {
			pages++
		}
	}
	if pages != 4 {
		t.Errorf("%d pages were read, want 4", pages)
	}
	s := w.plan(clusters(lines[0]), reconcile.Options{Prune: true})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/bbb": reconcile.Delete, "cluster/ccc": reconcile.Delete, "cluster/ddd": reconcile.Delete})
}

// An error says what to look for in the activity log, and what to give support: the request
// that failed and the run it was of.
func TestErrorsNameTheRequest(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Method: http.MethodPut, Path: "/managedClusters/prod", Status: http.StatusForbidden})
	connection := w.connect(false)
	s, err := w.open(connection, small(onePool), reconcile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = outcome(t, s.apply(t.Context()), "cluster/prod").Err
	request := ""
	for _, r := range w.Requests("arm") {
		if r.Method == http.MethodPut {
			request = r.Headers["X-Ms-Client-Request-Id"]
		}
	}
	if err == nil || !strings.Contains(err.Error(), "correlation "+connection.Run+")") || !strings.Contains(err.Error(), " (request ") {
		t.Errorf("%v does not name run %s", err, connection.Run)
	}
	if request == "" {
		t.Error("the request has no id of the client")
	}
	if other := w.connect(false); other.Run == connection.Run || other.Run == "" {
		t.Errorf("two runs are %q and %q", connection.Run, other.Run)
	}
}
