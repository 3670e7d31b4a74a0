package arm

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

var guid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// roleAssignments takes a path below a scope apart: the scope's ID in lower case, and what
// follows .../providers/Microsoft.Authorization/roleAssignments.
func roleAssignments(r *request) (scope string, rest []string, ok bool) {
	for i := 2; i+2 < len(r.parts); i++ {
		if r.parts[i] == "providers" && r.parts[i+1] == "microsoft.authorization" && r.parts[i+2] == "roleassignments" {
			return "/" + strings.Join(r.parts[:i], "/"), r.parts[i+3:], true
		}
	}
	return "", nil, false
}

func (s *Server) routeRoles(w http.ResponseWriter, r *request, scope string, rest []string) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(rest) == 0 && r.Method == http.MethodGet:
		return s.listRoles(w, r, scope)
	case len(rest) != 1:
		return noRoute(r.Request)
	}
	id := "/" + strings.Join(r.parts, "/")
	live := s.state.Resources[id]
	switch r.Method {
	case http.MethodGet:
		if live == nil {
			return refusal(http.StatusNotFound, "RoleAssignmentNotFound", "The role assignment '%s' is not found.", rest[0])
		}
		reply(w, http.StatusOK, live)
	case http.MethodDelete:
		if live == nil {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		delete(s.state.Resources, id)
		s.save()
		reply(w, http.StatusOK, live)
	case http.MethodPut:
		return s.putRole(w, r, scope, rest[0])
	default:
		return badMethod(r)
	}
	return nil
}

// putRole makes a role assignment. One cannot be changed.
func (s *Server) putRole(w http.ResponseWriter, r *request, scope, name string) *apiError {
	sent, refused := readBody(r)
	if refused != nil {
		return refused
	}
	properties, _ := sent["properties"].(body)
	for key := range properties {
		if !slices.Contains([]string{"roleDefinitionId", "principalId", "principalType", "description", "condition", "conditionVersion", "delegatedManagedIdentityResourceId"}, key) {
			return refusal(http.StatusBadRequest, "InvalidRequestContent", "The request content was invalid and could not be deserialized: 'Could not find member '%s' on object of type 'RoleAssignmentProperties'.'.", key)
		}
	}
	role, principal := text(properties, "roleDefinitionId"), text(properties, "principalId")
	id := "/" + strings.Join(r.parts, "/")
	switch {
	case !guid.MatchString(name):
		return refusal(http.StatusBadRequest, "InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment ID must be a GUID.", name)
	case !guid.MatchString(role[strings.LastIndexByte(role, '/')+1:]) || !strings.Contains(strings.ToLower(role), "/providers/microsoft.authorization/roledefinitions/"):
		return refusal(http.StatusBadRequest, "InvalidRoleDefinitionId", "The role definition ID '%s' is not valid.", role)
	case strings.Contains(scope, "/providers/") && s.state.Resources[scope] == nil:
		return refusal(http.StatusNotFound, "ResourceNotFound", "The Resource '%s' was not found.", scope)
	case !s.isPrincipal(principal):
		return refusal(http.StatusBadRequest, "PrincipalNotFound", "Principal %s does not exist in the directory 22222222-2222-2222-2222-222222222222. Check that you have the correct principal ID. If you are creating this principal and then immediately assigning a role, this error might be related to a replication delay. In this case, set the role assignment principalType property to a value, such as ServicePrincipal, User, or Group.", principal)
	}
	for _, other := range s.under(isRole) {
		there := s.state.Resources[other]
		same := strings.EqualFold(text(there, "properties.principalId"), principal) && strings.EqualFold(text(there, "properties.scope"), scopeOf(r)) &&
			strings.EqualFold(text(there, "properties.roleDefinitionId"), role)
		switch {
		case other == id && !same:
			return refusal(http.StatusConflict, "RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
		case other != id && same:
			return refusal(http.StatusConflict, "RoleAssignmentExists", "The role assignment already exists.")
		}
	}
	status := http.StatusCreated
	now := time.Now().UTC().Format(time.RFC3339Nano)
	if before := s.state.Resources[id]; before != nil {
		status, now = http.StatusOK, text(before, "properties.createdOn")
	}
	fill(properties, "principalType", "ServicePrincipal")
	properties["scope"], properties["createdOn"], properties["updatedOn"] = scopeOf(r), now, now
	s.state.Resources[id] = body{"id": "/" + strings.Join(r.names, "/"), "name": name, "type": "Microsoft.Authorization/roleAssignments", "properties": properties}
	s.save()
	reply(w, status, s.state.Resources[id])
	return nil
}

// scopeOf is the scope of a request as it was spelled.
func scopeOf(r *request) string {
	path := "/" + strings.Join(r.names, "/")
	return path[:strings.Index(strings.ToLower(path), "/providers/microsoft.authorization/")]
}

func isRole(id string) bool {
	return strings.Contains(id, "/providers/microsoft.authorization/roleassignments/")
}

// listRoles shows the assignments of a scope: those on it and, with atScope(), above it; without
// a filter those below it too.
func (s *Server) listRoles(w http.ResponseWriter, r *request, scope string) *apiError {
	filter := strings.ToLower(r.URL.Query().Get("$filter"))
	principal, byPrincipal := strings.CutPrefix(filter, "principalid eq ")
	if filter != "" && filter != "atscope()" && !byPrincipal {
		return refusal(http.StatusBadRequest, "UnsupportedQuery", "The filter '%s' is not supported.", filter)
	}
	ids := s.under(isRole)
	slices.SortFunc(ids, func(a, b string) int {
		return strings.Compare(text(s.state.Resources[a], "properties.createdOn")+a, text(s.state.Resources[b], "properties.createdOn")+b)
	})
	if s.late > 0 && len(ids) > 0 {
		s.late--
		ids = ids[:len(ids)-1]
	}
	all := []body{}
	for _, id := range ids {
		of := strings.ToLower(text(s.state.Resources[id], "properties.scope"))
		above := of == scope || strings.HasPrefix(scope, of+"/")
		below := strings.HasPrefix(of, scope+"/") && filter != "atscope()"
		if byPrincipal && text(s.state.Resources[id], "properties.principalId") != strings.Trim(principal, "'") {
			continue
		}
		if above || below {
			all = append(all, s.state.Resources[id])
		}
	}
	return s.page(w, r, all)
}

// Late makes so many lists of role assignments not show the newest one yet.
func (s *Server) Late(lists int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = lists
}

// isPrincipal tells whether Entra ID knows an identity: the kubelets' are all there are.
func (s *Server) isPrincipal(id string) bool {
	return slices.ContainsFunc(s.under(isCluster), func(cluster string) bool {
		return strings.EqualFold(text(s.state.Resources[cluster], "properties.identityProfile.kubeletidentity.objectId"), id)
	})
}

// defaultKubelet gives a cluster with a managed identity the one that AKS makes for its nodes.
func defaultKubelet(cluster body) {
	if cluster["identity"] == nil {
		return
	}
	id := text(cluster, "id")
	object, client := madeUUID("kubelet "+strings.ToLower(id)), madeUUID("kubelet client "+strings.ToLower(id))
	parts := strings.Split(id, "/")
	fill(cluster, "properties.identityProfile.kubeletidentity", body{
		"resourceId": "/" + strings.Join(parts[1:3], "/") + "/resourceGroups/" + text(cluster, "properties.nodeResourceGroup") +
			"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + text(cluster, "name") + "-agentpool",
		"clientId": client, "objectId": object,
	})
}

// madeUUID is the same for the same text, in every run.
func madeUUID(of string) string {
	sum := sha256.Sum256([]byte(of))
	h := hex.EncodeToString(sum[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
}

// listStored shows the resources of a type in a subscription: GET /subscriptions/S/providers/P/TYPE.
func (s *Server) listStored(w http.ResponseWriter, r *request) *apiError {
	if r.Method != http.MethodGet {
		return badMethod(r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []body{}
	for _, id := range s.under(func(id string) bool {
		p := strings.Split(id, "/")
		return len(p) == 9 && p[2] == r.parts[1] && p[6] == r.parts[3] && p[7] == r.parts[4]
	}) {
		all = append(all, s.state.Resources[id])
	}
	return s.page(w, r, all)
}
