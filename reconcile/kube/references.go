package kube

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// What the file refers to and holds not itself, a certificate or a secret of Key Vault, is a
// resource that is only read: its values are outputs, which never leave the process, and the
// objects that hold them name those outputs. What cannot be read, or must not be used, is a
// refusal of those objects alone.

// reference is what such a resource is rendered from.
type reference struct {
	field string // of the file: clusters[0].ssl.certificate
	uri   string // of the Key Vault; empty for files

	// Of a certificate alone:
	ssl     *spec.SSL
	subject reconcile.Address // the object that holds it, of which a plan speaks
}

// outputValue is a Key Vault secret's value in base64, as Secrets hold it.
const outputValue = "value"

// maxReads is how many are read at a time.
const maxReads = 8

// placed is where in an object's body an output of a reference stands.
type placed struct {
	path []string
	ref  reconcile.Ref
}

// put writes value at the place; what is above it is there, or made.
func (p placed) put(body map[string]any, value any) {
	for _, key := range p.path[:len(p.path)-1] {
		below, ok := body[key].(map[string]any)
		if !ok {
			below = map[string]any{}
			body[key] = below
		}
		body = below
	}
	body[p.path[len(p.path)-1]] = value
}

// refer declares a reference, once, and gives its address.
func (r *renderer) refer(address reconcile.Address, ref *reference) reconcile.Address {
	if !r.referred[address] {
		r.referred[address] = true
		r.resources = append(r.resources, reconcile.Resource{Address: address, Driver: DriverName, Data: true, Spec: ref})
	}
	return address
}

// place puts references into the object that was added last.
func (r *renderer) place(places ...placed) {
	if r.err != nil {
		return
	}
	resource := &r.resources[len(r.resources)-1]
	o := resource.Spec.(object)
	o.places = &places
	resource.Spec = o
	for _, p := range places {
		p.put(resource.Desired, p.ref)
		resource.DependsOn = append(resource.DependsOn, p.ref.Address)
	}
}

// referred is what reading the references of a stack came to.
type referred struct {
	live    []reconcile.Live
	outputs reconcile.Outputs
	failed  map[reconcile.Address]*reconcile.Failure
}

// readReferences reads them all, some at a time. The error is the context's alone.
func (d *Driver) readReferences(ctx context.Context, resources []reconcile.Resource) (*referred, error) {
	all := &referred{outputs: reconcile.Outputs{}, failed: map[reconcile.Address]*reconcile.Failure{}}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxReads)
	for _, r := range resources {
		ref, ok := r.Spec.(*reference)
		if !ok {
			continue
		}
		group.Go(func() error {
			outputs, notes, err := d.readReference(ctx, ref)
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			mu.Lock()
			defer mu.Unlock()
			live := reconcile.Live{Address: r.Address, Owner: d.stack.Name, State: reconcile.Settled, Outputs: outputs, Notes: notes}
			if err != nil {
				live.Absent = true
				all.failed[r.Address] = refusal(ref.field, err)
			}
			if outputs != nil {
				all.outputs[r.Address] = outputs
			}
			all.live = append(all.live, live)
			return nil
		})
	}
	return all, group.Wait()
}

// refusal is why an object must not be made of what a field refers to. A plan shows of a
// refusal only what it says, so the hint is part of that.
func refusal(field string, err error) *reconcile.Failure {
	failure := &reconcile.Failure{Reason: reconcile.ReasonOf(err), Hint: reconcile.HintOf(err)}
	if failure.Reason == "" {
		failure.Reason = reconcile.ReasonUnavailable
	}
	failure.Err = fmt.Errorf("%s: %w", field, err)
	if failure.Hint != "" {
		failure.Err = fmt.Errorf("%w; %s", failure.Err, failure.Hint)
	}
	return failure
}

// fill puts what was read into an observed request's body, and gives why it must not be used.
// The engine has made copies of all that leads to a place.
func (a *referred) fill(o object, body map[string]any) *reconcile.Failure {
	if o.places == nil {
		return nil
	}
	for _, p := range *o.places {
		if failure := a.failed[p.ref.Address]; failure != nil {
			return failure
		}
		if outputs := a.outputs[p.ref.Address]; outputs != nil { // else another driver's, which the engine knows
			p.put(body, outputs[p.ref.Output])
		}
	}
	return nil
}

// readReference gives what it holds as outputs.
func (d *Driver) readReference(ctx context.Context, ref *reference) (map[string]string, []reconcile.Note, error) {
	if ref.ssl != nil {
		return d.readCertificate(ctx, ref)
	}
	value, _, err := d.readVault(ctx, ref.uri)
	if err == nil && value == "" {
		err = fmt.Errorf("%s is empty", ref.uri)
	}
	if err != nil {
		return nil, nil, err
	}
	return map[string]string{outputValue: base64.StdEncoding.EncodeToString([]byte(value))}, nil, nil
}

func (d *Driver) readVault(ctx context.Context, uri string) (value, contentType string, err error) {
	if d.wiring.Vault == nil {
		return "", "", errors.New("there is no Key Vault to read it from")
	}
	return d.wiring.Vault(ctx, uri)
}

// readFile reads a file that the stack refers to where amlaks runs.
func (d *Driver) readFile(name string) ([]byte, error) {
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.stack.Dir, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: err, Hint: "plan and apply read it where they run"}
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err == nil && len(content) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxSecret)
	}
	return content, err
}

// vaultAddress names a Key Vault secret in a stack: secret/HOST/NAME.
func vaultAddress(uri string) reconcile.Address {
	_, rest, _ := strings.Cut(uri, "://")
	return reconcile.Address("secret/" + strings.Replace(rest, "/secrets/", "/", 1))
}
