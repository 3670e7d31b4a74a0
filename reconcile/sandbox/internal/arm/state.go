package arm

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/amlaks/amlaks/reconcile/sandbox/internal/files"
)

// body is a resource or a part of one as JSON.
type body = map[string]any

// state is what survives a restart. Keys are resource IDs in lower case.
type state struct {
	Count      int                   `json:"count"` // of identifiers given out
	Resources  map[string]body       `json:"resources"`
	Operations map[string]*operation `json:"operations"`
	// Running are the clusters behind which Kubernetes has been up.
	Running map[string]bool `json:"running"`
	// Vaults are the names of those that were deleted, and not purged.
	Vaults     map[string]bool `json:"vaults,omitempty"`
	Registered int             `json:"registered,omitempty"` // models, ever
	// Secrets are what POSTs to a path give, such as a datastore's listSecrets.
	Secrets map[string]body `json:"secrets,omitempty"`
	Compute compute         `json:"compute,omitzero"`
}

func (s *Server) load() error {
	s.state = state{Resources: map[string]body{}, Operations: map[string]*operation{}, Running: map[string]bool{}, Vaults: map[string]bool{}}
	err := files.ReadJSON(s.config.File, &s.state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// save is called with every change made, under the lock, before it is answered.
func (s *Server) save() {
	if err := files.WriteJSON(s.config.File, s.state); err != nil {
		s.config.Logf("keep the state of ARM: %v", err)
	}
}

// children gives the resources directly under a collection ("/.../managedclusters/"), by name.
func (s *Server) children(collection string) []string {
	return s.under(func(id string) bool {
		rest, ok := strings.CutPrefix(id, collection)
		return ok && rest != "" && !strings.Contains(rest, "/")
	})
}

func (s *Server) under(match func(id string) bool) []string {
	ids := slices.Collect(maps.Keys(s.state.Resources))
	ids = slices.DeleteFunc(ids, func(id string) bool { return !match(id) })
	slices.Sort(ids)
	return ids
}

// Overlay writes what merge holds over a resource, as a newer API version or another
// client would have: that is how properties get there that today's SDK does not know.
func (s *Server) Overlay(id string, merge map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	live, ok := s.state.Resources[strings.ToLower(id)]
	if !ok {
		return notFound(id)
	}
	overlay(live, merge)
	s.touch(live)
	s.save()
	return nil
}

func overlay(live, merge body) {
	for key, value := range merge {
		inner, isBody := value.(body)
		under, isUnder := live[key].(body)
		switch {
		case isBody && isUnder:
			overlay(under, inner)
		case value == nil:
			delete(live, key)
		default:
			live[key] = value
		}
	}
}

func clone(b body) body {
	text, err := json.Marshal(b)
	var copied body
	if err != nil || json.Unmarshal(text, &copied) != nil {
		return body{} // cannot be: it came out of JSON
	}
	return copied
}

// at reads a value by its dotted path; nil when there is none.
func at(b body, path string) any {
	var value any = b
	for key := range strings.SplitSeq(path, ".") {
		inner, ok := value.(body)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

func text(b body, path string) string {
	value, _ := at(b, path).(string)
	return value
}

// put writes a value by its dotted path.
func put(b body, path string, value any) {
	key, rest, more := strings.Cut(path, ".")
	if !more {
		b[key] = value
		return
	}
	inner, ok := b[key].(body)
	if !ok {
		inner = body{}
		b[key] = inner
	}
	put(inner, rest, value)
}

// fill writes a value where there is none.
func fill(b body, path string, value any) {
	if at(b, path) == nil {
		put(b, path, value)
	}
}

func remove(b body, paths ...string) {
	for _, path := range paths {
		parent, key := b, path
		if i := strings.LastIndexByte(path, '.'); i >= 0 {
			parent, _ = at(b, path[:i]).(body)
			key = path[i+1:]
		}
		delete(parent, key)
	}
}
