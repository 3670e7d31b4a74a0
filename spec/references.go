package spec

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// latest is what is written where no version is meant; see latestHint.
const latest = "latest"

// Reference is a registered model that a version of a service names.
type Reference struct {
	Service, Version string
	// Model has the version that the file says, which may be latest in a file that is not valid.
	Model Model
}

// References gives the registered models that the stack's services name, in its order.
func (s *Stack) References() []Reference {
	var all []Reference
	for _, service := range s.Services {
		for _, version := range service.ServedVersions() {
			for _, m := range version.Models {
				if m.Path == "" {
					all = append(all, Reference{Service: service.Name, Version: version.Name, Model: m})
				}
			}
		}
	}
	return all
}

// LooseReferences reads from a file that Load refuses what can be looked up all the same: its
// workspace, and the registered models that it names. The error says what of that is missing.
func LooseReferences(file string) (*Workspace, []Reference, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, nil, err
	}
	type loose struct {
		Name   string            `json:"name"`
		Models []json.RawMessage `json:"models"`
	}
	var stack struct {
		Workspace Workspace `json:"workspace"`
		Services  []struct {
			loose
			Versions []loose `json:"versions"`
		} `json:"services"`
	}
	if err := yaml.Unmarshal(data, &stack); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", file, err)
	}
	if w := stack.Workspace; w.SubscriptionID == "" || w.ResourceGroup == "" || w.Name == "" {
		return nil, nil, fmt.Errorf("%s: workspace does not say which: subscriptionId, resourceGroup and name", file)
	}
	var all []Reference
	add := func(service, version string, models []json.RawMessage) {
		for _, raw := range models {
			if m, ok := looseModel(raw); ok {
				all = append(all, Reference{Service: service, Version: version, Model: m})
			}
		}
	}
	for _, service := range stack.Services {
		for _, version := range service.Versions {
			models := version.Models
			if models == nil {
				models = service.Models
			}
			add(service.Name, version.Name, models)
		}
		if len(service.Versions) == 0 {
			add(service.Name, DefaultVersion, service.Models)
		}
	}
	return &stack.Workspace, all, nil
}

// looseModel reads a model in any of its forms, with latest in the place of a version too.
func looseModel(raw json.RawMessage) (Model, bool) {
	var m struct {
		Name, Registry, Path string
		Version              any
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if name, ok := strings.CutSuffix(text, "@"+latest); ok {
			text = name + ":" + latest
		}
		content, err := json.Marshal(modelOf(text))
		if err != nil {
			return Model{}, false
		}
		raw = content
	}
	if json.Unmarshal(raw, &m) != nil || m.Name == "" || m.Path != "" {
		return Model{}, false
	}
	found := Model{Name: m.Name, Registry: m.Registry}
	switch version := m.Version.(type) {
	case string:
		found.Version = version
	case float64:
		found.Version = strconv.FormatFloat(version, 'f', -1, 64)
	}
	return found, found.Version != ""
}
