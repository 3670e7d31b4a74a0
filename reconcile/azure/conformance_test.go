package azure_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/drivertest"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

func TestMain(m *testing.M) { os.Exit(drivertest.Main(m)) }

// TestConformance takes each kind of resource of this driver through the engine's suite.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, kind := range []subject{cluster, pool, attachedCluster} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			w := kind.world
			w.Writes = func(r *http.Request) bool {
				return r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/listClusterAdminCredential")
			}
			w.Start = func(t *testing.T) drivertest.Place {
				p := &place{world: start(t), kind: kind}
				if kind.before != nil {
					kind.before(p)
				}
				return p
			}
			drivertest.Run(t, w)
		})
	}
}

// subject is a kind of resource: how it is written in a file, and where it is in Azure.
type subject struct {
	name   string
	world  drivertest.World
	before func(*place) // what is there from the start
	// files are the keys of the clusters, by revision. Another stack's cluster is other, not prod.
	files map[drivertest.Revision]string
	id    string // of the resource, or of what is attached
	// owned and unowned are written over it as somebody else would.
	owned, unowned map[string]any
	foreign        func(p *place, owner string)
}

const (
	ourStack, theirStack = "churn", "fraud"
	gpu                  = "name: gpu, vmSize: Standard_NC4as_T4_v3"
)

func gpuPools(keys string) string {
	return small(onePool, "nodePools: [{"+gpu+", "+keys+"}]")
}

var cluster = subject{
	name: "cluster",
	world: drivertest.World{
		Subject: "cluster/prod", Changed: []string{"tags.cost"}, Drifted: []string{"sku.tier"},
	},
	files: map[drivertest.Revision]string{
		drivertest.Base:      small(onePool, "tags: {cost: a}"),
		drivertest.Changed:   small(onePool, "tags: {cost: b}"),
		drivertest.Without:   nothing,
		drivertest.Adopting:  small(onePool, "tags: {cost: a}", "adopt: true"),
		drivertest.Protected: strings.Replace(small(onePool, "tags: {cost: a}"), "protect: false", "protect: true", 1),
	},
	id:      clusterID("prod"),
	owned:   map[string]any{"sku": map[string]any{"tier": "Standard"}},
	unowned: map[string]any{"tags": map[string]any{"team": "risk"}, "properties": map[string]any{"newerThanTheSdk": "x"}},
	foreign: func(p *place, owner string) {
		p.byHand(sandbox.ClusterRequest{Name: "prod"}, ownerTag(owner)["tags"].(map[string]any))
	},
}

var pool = subject{
	name: "pool",
	world: drivertest.World{
		Subject: "cluster/prod/pool/gpu", Changed: []string{"properties.count"}, Drifted: []string{"properties.nodeLabels.accelerator"},
		Nature: drivertest.Nature{
			Within:      "AKS deletes a cluster's pools with it",
			Unprotected: "the file protects clusters, not their pools",
		},
	},
	before: func(p *place) { p.converge(p.text(ourStack, drivertest.Without), reconcile.Options{}) },
	files: map[drivertest.Revision]string{
		drivertest.Base:      gpuPools("labels: {accelerator: nvidia}"),
		drivertest.Changed:   gpuPools("agentCount: 2, labels: {accelerator: nvidia}"),
		drivertest.Without:   small(onePool),
		drivertest.Adopting:  strings.Replace(gpuPools("labels: {accelerator: nvidia}"), "protect: false", "protect: false, adopt: true", 1),
		drivertest.Protected: strings.Replace(gpuPools("labels: {accelerator: nvidia}"), "protect: false", "protect: true", 1),
	},
	id:      clusterID("prod") + "/agentPools/gpu",
	owned:   map[string]any{"properties": map[string]any{"nodeLabels": map[string]any{"accelerator": "amd"}}},
	unowned: map[string]any{"properties": map[string]any{"newerThanTheSdk": "x", "nodeLabels": map[string]any{"team": "risk"}}},
	foreign: func(p *place, owner string) {
		content := `{"properties": {"mode": "User", "vmSize": "Standard_NC4as_T4_v3", "count": 3}}`
		if status, answer := p.send(http.MethodPut, p.kind.id, content); status != http.StatusCreated {
			p.t.Fatalf("HTTP %d: %v", status, answer)
		}
		p.until(func() bool { return p.get(p.kind.id, "properties", "provisioningState") == "Succeeded" })
		p.overlay(p.kind.id, map[string]any{"properties": ownerTag(owner)})
	},
}

var attachedCluster = subject{
	name: "attached cluster",
	world: drivertest.World{
		Subject: "cluster/shared", Drifted: []string{"tags.amlaks-attached-churn"},
		Nature: drivertest.Nature{
			Attached:     "it is somebody else's cluster, and a tag on it says who uses it",
			Ownerless:    "whose cluster it is does not matter to those who are attached to it",
			Unchangeable: "the one tag holds the name in the file, which is its address",
			Unprotected:  "leaving it deletes nothing",
		},
	},
	before: func(p *place) { p.byHand(sandbox.ClusterRequest{Name: "existing"}, map[string]any{"team": "risk"}) },
	files: map[drivertest.Revision]string{
		drivertest.Base:      clusters(attach("shared", "existing")),
		drivertest.Changed:   clusters(strings.Replace(attach("shared", "existing"), "}}", "}, frontEnd: {replicas: 2}}", 1)),
		drivertest.Without:   nothing,
		drivertest.Adopting:  clusters(strings.Replace(attach("shared", "existing"), "}}", "}, adopt: true}", 1)),
		drivertest.Protected: clusters(strings.Replace(attach("shared", "existing"), "}}", "}, protect: true}", 1)),
	},
	id:      clusterID("existing"),
	owned:   map[string]any{"tags": map[string]any{"amlaks-attached-churn": "somebody"}},
	unowned: map[string]any{"tags": map[string]any{"team": "fraud"}, "properties": map[string]any{"newerThanTheSdk": "x"}},
	foreign: func(p *place, owner string) { p.overlay(p.kind.id, ownerTag(owner)) },
}

func ownerTag(owner string) map[string]any {
	if owner == "" {
		return map[string]any{"tags": map[string]any{"cost": "7"}}
	}
	return map[string]any{"tags": map[string]any{"amlaks-stack": owner}}
}

// place is a Resource Manager with one kind of subject in it.
type place struct {
	*world
	kind subject
}

func (p *place) Stacks() (ours, theirs string) { return ourStack, theirStack }

// text is a stack's file.
func (p *place) text(stack string, revision drivertest.Revision) string {
	text := p.kind.files[revision]
	if stack == theirStack {
		text = strings.Replace(text, "name: prod", "name: other", 1)
	}
	return strings.Replace(text, "name: "+ourStack, "name: "+stack, 1)
}

func (p *place) Open(t *testing.T, i drivertest.Invocation) ([]reconcile.Driver, []reconcile.Resource) {
	t.Helper()
	stack := parse(t, p.text(i.Stack, i.Revision))
	stack.Name = i.Stack
	connection := p.connect(i.ReadOnly)
	connection.Options.Transport = &http.Client{Transport: i.Wrap(http.DefaultTransport)}
	driver, err := azure.New(connection, stack, azure.Options{})
	if err != nil {
		t.Fatal(err)
	}
	driver.SetSettleEvery(settleEvery)
	resources, err := driver.Resources()
	if err != nil {
		t.Fatal(err)
	}
	return []reconcile.Driver{driver}, resources
}

// attached tells whether the subject is only a tag.
func (p *place) attached() bool { return p.kind.world.Nature.Attached != "" }

func (p *place) Live(t *testing.T, stack string) string {
	t.Helper()
	if p.attached() {
		tag, _ := p.get(p.kind.id, "tags", "amlaks-attached-"+stack).(string)
		return tag
	}
	id := p.kind.id
	if stack == theirStack {
		id = strings.Replace(id, "/prod", "/other", 1)
	}
	status, live := p.send(http.MethodGet, id, "")
	if status == http.StatusNotFound {
		return ""
	}
	return text(t, withoutETags(live))
}

// withoutETags leaves out what every write changes.
func withoutETags(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "eTag")
		for key := range v {
			v[key] = withoutETags(v[key])
		}
	case []any:
		for i := range v {
			v[i] = withoutETags(v[i])
		}
	}
	return v
}

func text(t *testing.T, v any) string {
	t.Helper()
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Objects are all clusters and pools; of the pool's world only those that are not a cluster's first.
func (p *place) Objects(t *testing.T) []string {
	t.Helper()
	_, list := p.send(http.MethodGet, "/subscriptions/"+sandbox.SubscriptionID+"/providers/Microsoft.ContainerService/managedClusters", "")
	var objects []string
	values, _ := list["value"].([]any)
	for _, value := range values {
		name := fmt.Sprint(at(value, "name"))
		if p.kind.name != pool.name {
			objects = append(objects, name)
		}
		profiles, _ := at(value, "properties", "agentPoolProfiles").([]any)
		for _, profile := range profiles {
			if p.kind.name != pool.name || at(profile, "mode") != "System" {
				objects = append(objects, name+"/"+fmt.Sprint(at(profile, "name")))
			}
		}
	}
	slices.Sort(objects)
	return objects
}

func (p *place) Drift(t *testing.T) {
	t.Helper()
	p.overlay(p.kind.id, p.kind.owned)
}

func (p *place) Touch(t *testing.T) func() string {
	t.Helper()
	p.overlay(p.kind.id, p.kind.unowned)
	return func() string {
		var got []any
		for _, path := range [][]string{{"tags", "team"}, {"properties", "newerThanTheSdk"}, {"properties", "nodeLabels", "team"}} {
			got = append(got, p.get(p.kind.id, path...))
		}
		return fmt.Sprint(got...)
	}
}

func (p *place) Foreign(t *testing.T, owner string) func() string {
	t.Helper()
	p.kind.foreign(p, owner)
	return func() string {
		_, live := p.send(http.MethodGet, p.kind.id, "")
		if p.attached() {
			delete(live["tags"].(map[string]any), "amlaks-attached-"+ourStack)
			withoutETags(live)
		}
		return text(t, live)
	}
}

func (p *place) Remove(t *testing.T) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, p.ARMEndpoint()+p.kind.id+"?api-version=2025-02-01", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+p.Token())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	p.until(func() bool { return p.get(p.kind.id, "id") == nil })
}

// until polls what is done by the service in its own time.
func (w *world) until(done func() bool) {
	w.t.Helper()
	deadline, ticker := time.After(time.Minute), time.NewTicker(settleEvery)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			w.t.Fatal("not done within a minute")
		}
	}
}

func (p *place) Secrets(*testing.T) []string {
	return []string{"kubeconfig-that-nobody-may-see", p.Token()}
}
