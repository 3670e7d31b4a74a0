package azure_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

const (
	acrPull     = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
	acrPush     = "8311e382-0749-4cb8-b61a-304f252e45ec"
	keyVaultIts = "00482a5a-887f-4fb3-b363-3b7fe8e74483" // Key Vault Administrator: nothing to do with images
	group       = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/" + sandbox.ResourceGroup
	registryID  = group + "/providers/Microsoft.ContainerRegistry/registries/mlprod"
	roles       = "/providers/Microsoft.Authorization/roleAssignments"
	oneCluster  = "- {name: prod, purpose: DevTest, agentCount: 1, protect: false}"
	pullAddress = reconcile.Address("cluster/prod/acrPull")
)

// pulling is a stack whose clusters may pull.
func pulling(lines string) string { return inWorkspace("grantAcrPull: true", lines) }

// kubelet is the object ID of the identity of a cluster's nodes.
func (w *world) kubelet(name string) string {
	id, _ := w.get(clusterID(name), "properties", "identityProfile", "kubeletidentity", "objectId").(string)
	return id
}

// assign gives a role as somebody would by hand.
func (w *world) assign(scope, role, principal, more string) {
	w.t.Helper()
	content := fmt.Sprintf(`{"properties": {"roleDefinitionId": "/subscriptions/%s/providers/Microsoft.Authorization/roleDefinitions/%s", "principalId": %q%s}}`,
		sandbox.SubscriptionID, role, principal, more)
	if status, answer := w.send(http.MethodPut, scope+roles+"/00000000-0000-0000-0000-00000000000"+fmt.Sprint(len(w.assignments())), content); status != http.StatusCreated {
		w.t.Fatalf("HTTP %d: %v", status, answer)
	}
}

// assignments are all of them on the registry and above, as "role principal".
func (w *world) assignments() []string { return w.assignmentsOn(registryID) }

func (w *world) assignmentsOn(scope string) []string {
	w.t.Helper()
	_, answer := w.send(http.MethodGet, scope+roles, "")
	list, _ := answer["value"].([]any)
	var out []string
	for _, item := range list {
		role := at(item, "properties", "roleDefinitionId").(string)
		out = append(out, role[strings.LastIndex(role, "/")+1:]+" "+at(item, "properties", "principalId").(string))
	}
	return out
}

func (w *world) wantAssignments(want ...string) {
	w.t.Helper()
	w.wantAssignmentsOn(registryID, want...)
}

func (w *world) wantAssignmentsOn(scope string, want ...string) {
	w.t.Helper()
	if got := w.assignmentsOn(scope); strings.Join(got, ", ") != strings.Join(want, ", ") {
		w.t.Errorf("role assignments %q, want %q", got, want)
	}
}

// roleWrites are the writes of role assignments.
func (w *world) roleWrites() []sandbox.Request {
	var out []sandbox.Request
	for _, r := range w.writes() {
		if strings.Contains(r.Path, roles) {
			out = append(out, r)
		}
	}
	return out
}

// The nodes of a new cluster may pull, in one request that can be repeated, and until the
// cluster goes.
func TestAcrPull(t *testing.T) {
	t.Parallel()
	w := start(t)
	s := w.plan(pulling(oneCluster), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/prod": reconcile.Create, "cluster/prod/pool/agents": reconcile.Create, pullAddress: reconcile.Create,
	})
	result := s.apply(t.Context())
	wantDone(t, result)
	w.wantAssignments(acrPull + " " + w.kubelet("prod"))
	since, err := time.Parse(time.RFC3339, result.Outputs[pullAddress][azure.OutputPullGranted])
	if err != nil || time.Since(since) > time.Minute {
		t.Errorf("granted %v, %v", since, err)
	}
	writes := w.roleWrites()
	if len(writes) != 1 || writes[0].Method != http.MethodPut {
		t.Fatalf("writes %v", writes)
	}
	var sent struct{ Properties map[string]string }
	if err := json.Unmarshal([]byte(writes[0].Body), &sent); err != nil || sent.Properties["principalType"] != "ServicePrincipal" || !strings.Contains(sent.Properties["description"], "stack churn") {
		t.Errorf("sent %s: %v", writes[0].Body, err)
	}
	w.wantSteady(pulling(oneCluster), reconcile.Options{Prune: true})
	lists := 0
	for _, r := range w.Requests("arm") {
		if strings.HasSuffix(r.Path, roles) {
			lists++
		}
	}
	if lists != 1 {
		t.Errorf("role assignments were listed %d times", lists)
	}
	w.converge(pulling(oneCluster), reconcile.Options{Destroy: true})
	w.wantAssignments()
	if w.get(clusterID("prod"), "id") != nil {
		t.Error("the cluster is still there")
	}
}

// A role that somebody else has given will do, wherever it holds, and is nobody's to take away.
func TestAcrPullGivenByHand(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		scope, role, more string
		does              bool
	}{
		"on the registry":  {registryID, acrPull, "", true},
		"on the group":     {group, acrPull, "", true},
		"more than enough": {registryID, acrPush, "", true},
		"something else":   {registryID, keyVaultIts, "", false},
		"on a condition":   {registryID, acrPull, `, "condition": "@Resource[x] StringEquals 'y'", "conditionVersion": "2.0"`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.converge(clusters(oneCluster), reconcile.Options{})
			w.assign(test.scope, test.role, w.kubelet("prod"), test.more)
			s := w.plan(pulling(oneCluster), reconcile.Options{})
			if !test.does {
				s.wantActions(map[reconcile.Address]reconcile.Action{pullAddress: reconcile.Create})
				return
			}
			s.wantActions(nil)
			before := w.assignments()
			w.wantSteady(pulling(oneCluster), reconcile.Options{})
			w.converge(pulling(oneCluster), reconcile.Options{Destroy: true})
			w.wantAssignments(before...)
		})
	}
}

// What is new is known late: the identity to those who assign roles, the role to those who read.
func TestAcrPullIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Method: "PUT", Path: "roleAssignments", Count: 3, Status: http.StatusBadRequest, Code: "PrincipalNotFound"})
	s := w.plan(pulling(oneCluster), reconcile.Options{})
	w.LateRoles(2)
	wantDone(t, s.apply(t.Context()))
	said := map[string]bool{}
	for _, e := range s.events {
		if e.Address == pullAddress {
			said[e.Message] = true
		}
	}
	for _, want := range []string{"waiting for Entra ID to know the cluster's identity", "waiting for the role assignment to be seen"} {
		if !said[want] {
			t.Errorf("%q was not said: %v", want, said)
		}
	}
	w.wantAssignments(acrPull + " " + w.kubelet("prod"))
	w.wantSteady(pulling(oneCluster), reconcile.Options{})
}

// One who may not assign roles is told the command for one who may; all else goes on.
func TestAcrPullForbidden(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Method: "PUT", Path: "roleAssignments", Count: 1, Status: http.StatusForbidden, Code: "AuthorizationFailed"})
	s := w.plan(pulling(oneCluster), reconcile.Options{})
	result := s.apply(t.Context())
	wantFailure(t, result, pullAddress, reconcile.Failed, reconcile.ReasonForbidden)
	hint := reconcile.HintOf(outcome(t, result, pullAddress).Err)
	for _, part := range []string{"az role assignment create", "--assignee-object-id " + w.kubelet("prod"), "--scope " + registryID} {
		if !strings.Contains(hint, part) {
			t.Errorf("the hint lacks %q: %s", part, hint)
		}
	}
	for _, o := range result.Outcomes {
		if o.Change.Address != pullAddress && o.Phase != reconcile.Done {
			t.Errorf("%s: %s %v", o.Change.Address, o.Phase, o.Err)
		}
	}
	w.assign(registryID, acrPull, w.kubelet("prod"), "")
	w.wantSteady(pulling(oneCluster), reconcile.Options{})
}

// Where it cannot be seen who may pull, that is said, and nothing is planned.
func TestAcrPullUnseen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		keys  string
		fault *sandbox.Fault
		why   string
	}{
		"roles may not be read":      {"grantAcrPull: true", &sandbox.Fault{Path: "roleAssignments"}, "the identity may not read who has a role there"},
		"registries may not be read": {"registry: other.azurecr.io", &sandbox.Fault{Path: "/registries$"}, "the identity may not list the registries"},
		"no registry of Azure's":     {"registry: ghcr.io", nil, "it is not an Azure container registry of subscription"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.converge(clusters(oneCluster), reconcile.Options{})
			if test.fault != nil {
				test.fault.Status, test.fault.Code, test.fault.Count = http.StatusForbidden, "AuthorizationFailed", 10
				w.fault(*test.fault)
			}
			w.ClearRequests()
			s := w.plan(inWorkspace(test.keys, oneCluster), reconcile.Options{})
			s.wantActions(nil)
			if notes := s.plan.Notes; len(notes) != 1 || !strings.Contains(notes[0].Message, test.why) || !strings.Contains(notes[0].Hint, "grantAcrPull: false") {
				t.Errorf("notes %v", notes)
			}
			wantDone(t, s.apply(t.Context()))
			w.wantWrites()
		})
	}
}

// A registry that the file names is found by its login server.
func TestAcrPullOnANamedRegistry(t *testing.T) {
	t.Parallel()
	w := start(t)
	stack := inWorkspace("registry: \""+w.Registry()+"\"", oneCluster)
	w.converge(stack, reconcile.Options{})
	w.wantAssignments(acrPull + " " + w.kubelet("prod"))
	w.wantSteady(stack, reconcile.Options{})
}

// Nodes that pull with a service principal are not looked at, and that is said.
func TestAcrPullOfAServicePrincipal(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
	w.overlay(clusterID("existing"), map[string]any{"properties": map[string]any{"identityProfile": nil, "servicePrincipalProfile": map[string]any{"clientId": "c"}}})
	s := w.plan(pulling(attach("shared", "existing")), reconcile.Options{})
	s.wantActions(map[reconcile.Address]reconcile.Action{"cluster/shared": reconcile.Update})
	if notes := s.plan.Notes; len(notes) != 1 || notes[0].Level != reconcile.Warning || notes[0].Address != "cluster/shared/acrPull" {
		t.Errorf("notes %v", notes)
	}
}

// An attached cluster gets the role too, and loses it when it is detached. Another stack's
// assignment is not ours.
func TestAcrPullOfAnAttachedCluster(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
	w.converge(pulling(oneCluster+"\n"+attach("shared", "existing")), reconcile.Options{})
	own, theirs := acrPull+" "+w.kubelet("prod"), acrPull+" "+w.kubelet("existing")
	if got := w.assignments(); len(got) != 2 {
		t.Fatalf("role assignments %v", got)
	}
	other := strings.Replace(pulling("- {name: further, purpose: DevTest, agentCount: 1}"), "name: churn", "name: fraud", 1)
	w.converge(other, reconcile.Options{Prune: true})
	if got := w.assignments(); len(got) != 3 {
		t.Fatalf("role assignments %v", got)
	}
	w.plan(pulling(oneCluster), reconcile.Options{}).wantActions(map[reconcile.Address]reconcile.Action{
		"cluster/shared": reconcile.Keep, "cluster/shared/acrPull": reconcile.Keep,
	})
	w.converge(pulling(oneCluster), reconcile.Options{Prune: true})
	if got := strings.Join(w.assignments(), " "); strings.Contains(got, theirs) || !strings.Contains(got, own) || !strings.Contains(got, w.kubelet("further")) {
		t.Errorf("after detaching: %s", got)
	}
	w.wantSteady(pulling(oneCluster), reconcile.Options{Prune: true})
}

// Stacks that use one cluster share its one assignment: the last of them takes it away.
func TestAcrPullIsShared(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]int{"the maker goes first": 1, "the maker goes last": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t)
			w.byHand(sandbox.ClusterRequest{Name: "existing"}, nil)
			maker := pulling(attach("shared", "existing"))
			stacks := []string{maker, strings.Replace(maker, "name: churn", "name: fraud", 1)}
			for _, stack := range stacks {
				w.converge(stack, reconcile.Options{})
			}
			shared := acrPull + " " + w.kubelet("existing")
			w.wantAssignments(shared)
			w.converge(stacks[1-last], reconcile.Options{Destroy: true})
			w.wantAssignments(shared)
			w.wantSteady(stacks[last], reconcile.Options{Prune: true})
			w.converge(stacks[last], reconcile.Options{Destroy: true})
			w.wantAssignments()
		})
	}
}

// What another stack has made is its own to take the role from.
func TestAcrPullOfAnotherStacksCluster(t *testing.T) {
	t.Parallel()
	w := start(t)
	owner := strings.Replace(pulling(oneCluster), "name: churn", "name: fraud", 1)
	w.converge(owner, reconcile.Options{})
	user := pulling(attach("shared", "prod"))
	w.converge(user, reconcile.Options{})
	w.converge(user, reconcile.Options{Destroy: true})
	w.wantAssignments(acrPull + " " + w.kubelet("prod"))
	w.wantSteady(owner, reconcile.Options{Prune: true})
}

// A cluster that is made anew has a new identity; the assignment of the old one is left over.
func TestAcrPullOfAClusterMadeAnew(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(pulling(oneCluster), reconcile.Options{})
	old := w.kubelet("prod")
	w.overlay(clusterID("prod"), map[string]any{"properties": map[string]any{"identityProfile": map[string]any{"kubeletidentity": map[string]any{"objectId": "12345678-0000-0000-0000-000000000000"}}}})
	s := w.plan(pulling(oneCluster), reconcile.Options{Prune: true})
	if actions := s.actions(); actions[pullAddress] != reconcile.Create || len(actions) != 2 {
		t.Errorf("actions %v", actions)
	}
	wantDone(t, s.apply(t.Context()))
	w.wantAssignments(acrPull + " 12345678-0000-0000-0000-000000000000")
	if strings.Contains(strings.Join(w.assignments(), " "), old) {
		t.Error("the old identity has kept its role")
	}
	w.wantSteady(pulling(oneCluster), reconcile.Options{Prune: true})
}

// What somebody does between plan and apply is no failure: a role is given once.
func TestAcrPullGivenMeanwhile(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.converge(clusters(oneCluster), reconcile.Options{})
	s := w.plan(pulling(oneCluster), reconcile.Options{})
	w.assign(registryID, acrPull, w.kubelet("prod"), "")
	wantDone(t, s.apply(t.Context()))
	w.wantAssignments(acrPull + " " + w.kubelet("prod"))
}

// An identity that never becomes known, of another tenant perhaps, is not waited for without end.
func TestAcrPullOfAStranger(t *testing.T) {
	t.Parallel()
	w := start(t)
	w.fault(sandbox.Fault{Method: "PUT", Path: "roleAssignments", Count: 1000, Status: http.StatusBadRequest, Code: "PrincipalNotFound"})
	s := w.plan(pulling(oneCluster), reconcile.Options{})
	s.driver.SetPrincipalFor(20 * time.Millisecond)
	result := s.apply(t.Context())
	wantFailure(t, result, pullAddress, reconcile.Failed, reconcile.ReasonNotFound)
	if hint := reconcile.HintOf(outcome(t, result, pullAddress).Err); !strings.Contains(hint, "another tenant") {
		t.Errorf("hint %q", hint)
	}
}
