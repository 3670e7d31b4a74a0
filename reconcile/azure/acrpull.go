package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/amlaks/amlaks/reconcile"
)

// OutputPullGranted is an output of a cluster's acrPull: since when its nodes may pull from the
// registry (RFC 3339).
const OutputPullGranted = "pullGranted"

// inputRegistryID is an input of acrPull resources.
const inputRegistryID = "registryId"

// acrPullRole is the built-in role AcrPull, the same in every tenant (learn.microsoft.com,
// "Azure built-in roles").
const acrPullRole = "7f951dda-4ed3-4680-a7ca-43fe172d538d"

// pullRoles are the built-in roles whose holder may pull (learn.microsoft.com, "Azure Container
// Registry roles and permissions").
var pullRoles = map[string]string{
	acrPullRole:                            "AcrPull",
	"8311e382-0749-4cb8-b61a-304f252e45ec": "AcrPush",
	"acdd72a7-3385-48ef-bd42-f606fba81ae7": "Reader",
	"b24988ac-6180-42a0-ab88-20f7382dd24c": "Contributor",
	"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": "Owner",
}

// principalFor bounds the wait for Entra ID to know the identity of a new cluster. It takes
// seconds as a rule.
const principalFor = 10 * time.Minute

// acrPull is the role by which the nodes of one cluster pull from the registry.
type acrPull struct {
	cluster   string // its name in the file
	clusterID string
	id        string // of the assignment, of one that was seen
}

// AcrPullAddress is the address of a cluster's right to pull from the registry.
func AcrPullAddress(cluster string) reconcile.Address { return ClusterAddress(cluster) + "/acrPull" }

// grantsPulls tells whether roles are looked at. Where no cluster is left there may still be
// those that the stack has given.
func (d *Driver) grantsPulls() bool { return d.stack.Workspace.GrantAcrPull }

// pulls renders the role of every cluster.
func (d *Driver) pulls() []reconcile.Resource {
	if !d.grantsPulls() {
		return nil
	}
	var resources []reconcile.Resource
	workspace := WorkspaceAddress(d.stack)
	for _, c := range d.stack.Clusters {
		id := d.clusterID(d.stack.Workspace.ResourceGroup, c.Name)
		if c.Attach != nil {
			id = d.attachedID(c.Attach)
		}
		resources = append(resources, reconcile.Resource{
			Address: AcrPullAddress(c.Name), Driver: DriverName, DependsOn: []reconcile.Address{ClusterAddress(c.Name), workspace},
			Inputs:  map[string]reconcile.Ref{inputRegistryID: {Address: workspace, Output: OutputRegistryID}},
			Desired: body{"role": pullRoles[acrPullRole], "registry": reconcile.Ref{Address: workspace, Output: OutputRegistry}},
			Adopt:   true, // whoever gave it: it is there
			// An owner may have given the role in a way that nobody sees.
			Optional: true,
			Summary:  "its nodes may pull from the registry: role AcrPull",
			Spec:     &acrPull{cluster: c.Name, clusterID: id},
		})
	}
	return resources
}

// observePulls finds the roles of the declared clusters, and those that the stack has given to
// others: one list of the registry's role assignments, whatever the number of clusters.
func (d *Driver) observePulls(ctx context.Context, declared []reconcile.Resource, live []reconcile.Live, all []body, at registry) ([]reconcile.Live, error) {
	if !d.grantsPulls() || at.server == "" {
		return nil, nil
	}
	resources := map[reconcile.Address]*acrPull{}
	var order []reconcile.Address
	for _, r := range declared {
		if p, ok := r.Spec.(*acrPull); ok {
			resources[r.Address] = p
			order = append(order, r.Address)
		}
	}
	var given []body
	if at.id != "" {
		var err error
		given, err = d.assignments(ctx, at.id)
		if isStatus(err, http.StatusForbidden) {
			at.unseen = "the identity may not read who has a role there"
		} else if err != nil {
			return nil, explain("list the role assignments of registry "+at.server, err)
		}
	}
	if at.unseen != "" {
		return d.unseenPulls(order, at), nil
	}
	clusters := map[reconcile.Address]body{}
	for _, l := range live {
		if !l.Absent {
			clusters[l.Address] = l.Body
		}
	}
	var out []reconcile.Live
	taken, used := map[reconcile.Address]bool{}, map[string]bool{}
	for _, address := range order {
		p := resources[address]
		taken[address] = true
		l := d.livePull(address, p, clusters[ClusterAddress(p.cluster)], given, at)
		if l != nil {
			out = append(out, *l)
		}
		if l != nil && l.Handle != nil {
			used[l.Handle.(*acrPull).id] = true
		}
	}
	byKubelet := make(map[string]body, len(all))
	for _, cluster := range all {
		byKubelet[strings.ToLower(kubelet(cluster))] = cluster
	}
	for _, assignment := range given { // what has left the file
		name, ours := d.pullOf(assignment)
		id := text(assignment, "id")
		cluster := byKubelet[strings.ToLower(text(assignment, "properties", "principalId"))]
		if !ours || used[id] || d.pullOwner(assignment, cluster) == "" {
			continue
		}
		address := AcrPullAddress(name)
		if taken[address] { // the cluster was made anew since
			address += reconcile.Address("/" + text(assignment, "name"))
		}
		taken[address] = true
		out = append(out, d.pull(address, &acrPull{cluster: name, clusterID: text(cluster, "id")}, assignment, cluster, at))
	}
	return out, nil
}

// unseenPulls takes the roles of all clusters for given, and says that nobody has looked.
func (d *Driver) unseenPulls(addresses []reconcile.Address, at registry) []reconcile.Live {
	var out []reconcile.Live
	for i, address := range addresses {
		l := reconcile.Live{Address: address, Body: body{}, Predicted: body{}, State: reconcile.Settled, Status: at.unseen}
		if i == 0 {
			l.Notes = []reconcile.Note{{
				Address: WorkspaceAddress(d.stack), Level: reconcile.Info,
				Message: fmt.Sprintf("whether the clusters may pull from %s is not known: %s", at.server, at.unseen),
				Hint:    "see to it that they may, and set workspace.grantAcrPull: false",
			}}
		}
		out = append(out, l)
	}
	return out
}

// livePull is the role of one declared cluster; nil if it has none.
func (d *Driver) livePull(address reconcile.Address, p *acrPull, cluster body, given []body, at registry) *reconcile.Live {
	principal := kubelet(cluster)
	if how, _ := state(text(cluster, "properties", "provisioningState")); principal == "" && cluster != nil && how == reconcile.Settled {
		l := reconcile.Live{Address: address, Body: body{}, Predicted: body{}, State: reconcile.Settled, Notes: []reconcile.Note{{
			Level:   reconcile.Warning,
			Message: "the cluster's nodes pull with a service principal and not with a managed identity: whether it may is not known",
			Hint:    "give it AcrPull on the registry (az aks update --attach-acr), and set workspace.grantAcrPull: false",
		}}}
		return &l
	}
	var found body
	for _, assignment := range given {
		if principal == "" || !mayPull(assignment, principal) {
			continue
		}
		if _, ours := d.pullOf(assignment); found == nil || ours {
			found = assignment
		}
	}
	if found == nil {
		return nil
	}
	l := d.pull(address, p, found, cluster, at)
	return &l
}

// pull is a role assignment as the engine sees it.
func (d *Driver) pull(address reconcile.Address, p *acrPull, assignment, cluster body, at registry) reconcile.Live {
	properties, _ := assignment["properties"].(body)
	shown := body{"role": pullRoles[roleOf(assignment)], "registry": at.server}
	l := reconcile.Live{
		Address: address, Body: shown, Predicted: shown, State: reconcile.Settled,
		Handle:    &acrPull{cluster: p.cluster, clusterID: p.clusterID, id: text(assignment, "id")},
		DependsOn: []reconcile.Address{ClusterAddress(p.cluster)},
	}
	l.Owner = d.pullOwner(assignment, cluster)
	if since, err := time.Parse(time.RFC3339, text(properties, "createdOn")); err == nil {
		l.Outputs = map[string]string{OutputPullGranted: since.UTC().Format(time.RFC3339)}
	}
	return l
}

// assignments are those that hold for a resource: made on it, or on what it is in.
func (d *Driver) assignments(ctx context.Context, scope string) ([]body, error) {
	target := d.arm.target(scope+"/providers/Microsoft.Authorization/roleAssignments", authorizationVersion)
	return d.arm.pages(ctx, target+"&$filter="+url.QueryEscape("atScope()"))
}

// kubelet is the object ID of the identity with which a cluster's nodes pull images; empty if
// it is not known, or they do it with a service principal.
func kubelet(cluster body) string {
	return text(cluster, "properties", "identityProfile", "kubeletidentity", "objectId")
}

func roleOf(assignment body) string {
	role := text(assignment, "properties", "roleDefinitionId")
	return strings.ToLower(role[strings.LastIndex(role, "/")+1:])
}

// mayPull tells whether an assignment lets a principal pull. One under a condition may not.
func mayPull(assignment body, principal string) bool {
	return pullRoles[roleOf(assignment)] != "" && strings.EqualFold(text(assignment, "properties", "principalId"), principal) &&
		text(assignment, "properties", "condition") == ""
}

// The description of an assignment says whose it is: it has no tags.
const (
	pullDescription = "amlaks: nodes of cluster %s, stack %s, workspace %s"
	pullPrefix      = "amlaks: nodes of cluster "
)

func (d *Driver) describePull(cluster string) string {
	return fmt.Sprintf(pullDescription, cluster, d.stack.Name, strings.ToLower(WorkspaceID(d.stack)))
}

// pullOf gives the cluster for which this stack has made an assignment.
func (d *Driver) pullOf(assignment body) (cluster string, ours bool) {
	description := text(assignment, "properties", "description")
	rest, _ := strings.CutPrefix(description, pullPrefix)
	cluster, _, _ = strings.Cut(rest, ",")
	return cluster, cluster != "" && description == d.describePull(cluster)
}

// pullOwner is whose an assignment is to take away: the stack's, or nobody's. Azure has one for
// the same role, principal and scope, so stacks that use one cluster share it: whichever made
// it, the last of them takes it away. One that no stack has made stays.
func (d *Driver) pullOwner(assignment, cluster body) string {
	_, ours := d.pullOf(assignment)
	if cluster != nil {
		made := text(cluster, "tags", tagStack)
		ours = strings.HasPrefix(text(assignment, "properties", "description"), pullPrefix) &&
			(made == d.stack.Name || made == "" && len(d.otherStacks(cluster)) == 0)
	}
	if !ours {
		return ""
	}
	return d.stack.Name
}

// assignmentName is the same for the same principal on the same registry, so that a repeated
// request is the same one.
func assignmentName(scope, principal string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(strings.ToLower(scope+"|"+principal+"|"+acrPullRole))).String()
}
