package azure

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile"
)

// runs is the version that a cluster's control plane, or a pool, runs: the whole one, where
// the other property may name a minor only.
func runs(live body) string {
	return cmp.Or(text(live, "properties", "currentKubernetesVersion"), text(live, "properties", "currentOrchestratorVersion"),
		text(live, "properties", "kubernetesVersion"), text(live, "properties", "orchestratorVersion"))
}

// versionOf is the property that says which version a cluster or a pool is to run, and its value.
func versionOf(b body) (property, version string) {
	for _, property := range []string{"kubernetesVersion", "orchestratorVersion"} {
		if version := text(b, "properties", property); version != "" {
			return property, version
		}
	}
	return "", ""
}

// behind tells whether live has another version than desired asks for.
func behind(desired, live body) bool {
	property, wanted := versionOf(desired)
	if property == "" {
		return false
	}
	how := map[string]reconcile.Comparator{property: reconcile.Minor}
	return len(reconcile.Differences(body{property: wanted}, body{property: text(live, "properties", property)}, how)) > 0
}

// offered asks once for the versions of a region.
func (d *Driver) offered(ctx context.Context, location string) ([]release, error) {
	location = strings.ToLower(strings.ReplaceAll(location, " ", ""))
	d.mu.Lock()
	all, asked := d.versions[location]
	d.mu.Unlock()
	if asked {
		return all, nil
	}
	id := "/subscriptions/" + d.stack.Workspace.SubscriptionID + "/providers/Microsoft.ContainerService/locations/" + location + "/kubernetesVersions"
	answer, err := d.arm.get(ctx, id, aksVersion)
	if err != nil {
		return nil, explain("list the Kubernetes versions of "+location, err)
	}
	all = releases(answer)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.versions[location] = all
	return all, nil
}

// checkVersions says what is to be said of versions: of clusters that are to be made, or are
// at another version than the file says, and of their pools. It asks for a region's versions
// only then. What would fail is refused.
func (d *Driver) checkVersions(ctx context.Context, declared []reconcile.Resource, live []reconcile.Live, location string) ([]reconcile.Live, error) {
	there := map[reconcile.Address]*reconcile.Live{}
	for i := range live {
		there[live[i].Address] = &live[i]
	}
	var absent []reconcile.Live
	for _, r := range declared {
		own, isCluster := r.Spec.(*clusterSpec)
		_, isPool := r.Spec.(*poolSpec)
		_, wanted := versionOf(r.Desired)
		l := there[r.Address]
		switch {
		case wanted == "" || isCluster && own.Attach != nil || !isCluster && !isPool:
		case l == nil && isCluster && location != "":
			all, err := d.offered(ctx, location)
			if err != nil {
				return nil, err
			}
			if len(all) == 0 { // nothing is known of the region: AKS says itself what it does not have
				continue
			}
			absent = append(absent, reconcile.Live{Address: r.Address, Absent: true, Refused: check(all, wanted, location), Notes: about(all, wanted)})
		case l == nil || l.Owner != d.stack.Name && !r.Adopt || !behind(r.Desired, l.Body) || l.Refused != nil:
		default:
			region := location
			if cluster := there[cmp.Or(l.Within, l.Address)]; cluster != nil {
				region = cmp.Or(text(cluster.Body, "location"), location)
			}
			all, err := d.offered(ctx, region)
			if err != nil {
				return nil, err
			}
			if len(all) > 0 {
				planned(l, all, wanted, region, isCluster)
			}
		}
	}
	return absent, nil
}

// planned says of a live cluster or pool by which way its version gets to the wanted one.
func planned(l *reconcile.Live, all []release, wanted, region string, isCluster bool) {
	current := runs(l.Body)
	steps, err := upgrades(all, current, wanted)
	if refused, ok := err.(*reconcile.Failure); ok {
		l.Refused = refused
		return
	}
	if isCluster {
		l.Refused = cmp.Or(check(all, wanted, region), skew(l.Body, wanted))
		l.Notes = append(l.Notes, about(all, wanted)...)
	}
	if by := way(current, steps); by != "" && l.Refused == nil {
		l.Why = strings.TrimPrefix(l.Why+"; Kubernetes goes "+by, "; ")
	}
}

// skew refuses to go further ahead of a pool than AKS takes.
func skew(cluster body, wanted string) *reconcile.Failure {
	to, _ := parseVersion(wanted)
	profiles, _ := at(cluster, "properties", "agentPoolProfiles").([]any)
	for _, item := range profiles {
		profile, _ := item.(body)
		version := runs(body{"properties": profile})
		pool, ok := parseVersion(version)
		if !ok || to.minor-pool.minor <= mostSkew {
			continue
		}
		first := kubeVersion{pool.minor + mostSkew, -1}.minorText()
		return &reconcile.Failure{
			Reason: reconcile.ReasonUnsupported,
			Err: fmt.Errorf("properties.kubernetesVersion: node pool %s runs %s, and AKS has at most %d minors between nodes and control plane: apply kubernetesVersion %q first, which takes the pools along, and then %q",
				text(profile, "name"), version, mostSkew, first, wanted),
		}
	}
	return nil
}

// about are the notes on a version that can be had.
func about(all []release, wanted string) []reconcile.Note {
	v, _ := parseVersion(wanted)
	o, there := findRelease(all, v.minor)
	plain := slices.DeleteFunc(slices.Clone(all), func(o release) bool { return !o.plain || o.preview })
	switch {
	case !there || !o.plain:
	case o.preview:
		return []reconcile.Note{{
			Level: reconcile.Warning, Reason: reconcile.ReasonUnsupported,
			Message: "Kubernetes " + wanted + " is a preview in AKS: it has no support, and may not be upgraded from",
			Hint:    "for production take one of " + minors(plain),
			Data:    map[string]any{"kubernetesVersion": wanted, "preview": true},
		}}
	case len(plain) > 1 && plain[0].minor == v.minor:
		return []reconcile.Note{{
			Level: reconcile.Warning, Reason: reconcile.ReasonUnsupported,
			Message: "Kubernetes " + wanted + " is the oldest that AKS supports, and loses its support when the next one comes",
			Hint:    "take one of " + minors(plain[1:]),
			Data:    map[string]any{"kubernetesVersion": wanted, "preview": false},
		}}
	}
	return nil
}

// upgrade brings a cluster's control plane, or a pool, to the wanted version, step by step. Each
// is a request of its own that changes nothing else: AKS does not mix an upgrade with other
// changes. An interrupted one goes on from the version that is there.
func (d *Driver) upgrade(ctx context.Context, step reconcile.Step, id string) error {
	property, wanted := versionOf(step.Desired)
	if property == "" {
		return nil
	}
	sent := map[string]int{}
	for done := false; !done; {
		err := d.retry(ctx, id, step.Progress, func() error {
			live, err := d.settled(ctx, id, step.Progress)
			switch {
			case err != nil:
				return err
			case live == nil:
				return gone(id)
			case !behind(step.Desired, live):
				done = true
				return nil
			}
			next, err := d.nextVersion(ctx, step, live, wanted)
			if err != nil {
				return err
			}
			if sent[next]++; sent[next] > readBacks {
				return &reconcile.Failure{
					Reason: reconcile.ReasonOperationFailed, Hint: "look at the cluster's activity log, and run apply again",
					Err: fmt.Errorf("the upgrade to %s was taken %d times, and it runs %s still", next, readBacks, runs(live)),
				}
			}
			properties := maps.Clone(live["properties"].(body))
			properties[property] = next
			delete(properties, "agentPoolProfiles")
			content := maps.Clone(live)
			content["properties"] = properties
			step.Progress(fmt.Sprintf("waiting for Azure to upgrade Kubernetes from %s to %s", runs(live), next))
			return d.arm.write(ctx, http.MethodPut, id, aksVersion, writable(content, readOnlyOf(id)), ifMatch(live))
		})
		if err != nil {
			return explain("upgrade "+id, err)
		}
	}
	return nil
}

// nextVersion is the first step from the live version to the wanted one.
func (d *Driver) nextVersion(ctx context.Context, step reconcile.Step, live body, wanted string) (string, error) {
	from, known := parseVersion(runs(live))
	to, _ := parseVersion(wanted)
	if known && to.before(from) {
		return "", downgrade(runs(live), wanted)
	}
	if !known || to.minor <= from.minor+1 {
		return wanted, nil
	}
	location := text(live, "location")
	if location == "" { // a pool: it is its cluster's
		t, err := d.target(step)
		if err != nil {
			return "", err
		}
		cluster, err := d.arm.get(ctx, t.clusterID, aksVersion)
		if err != nil {
			return "", explain("read "+t.clusterID, err)
		}
		location = text(cluster, "location")
	}
	all, err := d.offered(ctx, location)
	if err != nil {
		return "", err
	}
	steps, err := upgrades(all, runs(live), wanted)
	if err != nil {
		return "", err
	}
	return steps[0], nil
}
