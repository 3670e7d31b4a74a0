// Package image is the driver for scoring images: a base pinned by digest, models and code on
// top of it, pushed without Docker. An image's identity is the hash of its inputs, kept as the
// tag in-HASH beside its digest, so an unchanged service costs one HEAD and reads no model byte.
package image

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/model"
	"github.com/amlaks/amlaks/spec"
)

// DriverName is the driver's Name.
const DriverName = "image"

// OutputRef is an image's output: REGISTRY/REPOSITORY@sha256:....
const OutputRef = "ref"

// FrontEndAddress is the address of the front end's image.
const FrontEndAddress reconcile.Address = "image/amlaks-fe"

// frontEndRepository is where a stack keeps it.
const frontEndRepository = "amlaks-fe"

// Address is that of a service's image, or of one of its versions'.
func Address(service, version string) reconcile.Address {
	if version == spec.DefaultVersion {
		return reconcile.Address("image/" + service)
	}
	return reconcile.Address("image/" + service + "/" + version)
}

// Options are what the driver needs of its surroundings.
type Options struct {
	Models         *model.Client
	FrontEndBinary string // path
	// Registry names the output that gives the login server.
	Registry reconcile.Ref
	// Keychain is asked for credentials before docker's own configuration; may be nil.
	Keychain authn.Keychain
	// ReadOnly refuses every request that could change something.
	ReadOnly bool
	// wrap, if not nil, sees every request right above the connection: tests count them.
	wrap func(http.RoundTripper) http.RoundTripper
}

// Driver is the reconcile.Driver of this package.
type Driver struct {
	options Options
	remote  []remote.Option
}

// New makes the driver of one run.
func New(o Options) *Driver {
	var keychain authn.Keychain = authn.DefaultKeychain
	if o.Keychain != nil {
		keychain = authn.NewMultiKeychain(o.Keychain, authn.DefaultKeychain)
	}
	d := &Driver{options: o, remote: []remote.Option{remote.WithAuthFromKeychain(keychain), remote.WithUserAgent("amlaks")}}
	// Retries are patient's and push's alone: on top of each other they would multiply.
	d.remote = append(d.remote, remote.WithRetryBackoff(remote.Backoff{Steps: 1}), remote.WithRetryStatusCodes(),
		remote.WithRetryPredicate(func(error) bool { return false }))
	connection := remote.DefaultTransport
	if o.wrap != nil {
		connection = o.wrap(connection)
	}
	var next http.RoundTripper = &pingOnce{next: secureTransport{patient(connection)}, known: map[string]*ping{}}
	if o.ReadOnly {
		next = readOnlyTransport{next}
	}
	d.remote = append(d.remote, remote.WithTransport(next))
	// A puller keeps a repository's connection and token, so that both are asked for once.
	if puller, err := remote.NewPuller(d.remote...); err == nil {
		d.remote = append(d.remote, remote.Reuse(puller))
	}
	return d
}

// Name implements reconcile.Driver.
func (d *Driver) Name() string { return DriverName }

const inputRegistry = "registry"

// source is what an image is made of: a service's version, or the front end.
type source struct {
	repository string
	service    string
	frontEnd   string // path of the binary; empty for a service
	models     []spec.Model
	inference  spec.Inference
}

// Resources renders the images of the stack, and the front end's if there is a cluster.
func (d *Driver) Resources(stack *spec.Stack) []reconcile.Resource {
	var resources []reconcile.Resource
	add := func(address reconcile.Address, s *source, summary string) {
		base := s.inference.BaseImage
		desired := map[string]any{"repository": s.repository, "base": base}
		if len(s.models) > 0 {
			models := make([]any, len(s.models))
			for i, m := range s.models {
				models[i] = m.Name + ":" + m.Version
			}
			desired["models"] = models
		}
		resources = append(resources, reconcile.Resource{
			Address: address, Driver: DriverName, DependsOn: []reconcile.Address{d.options.Registry.Address},
			Inputs:  map[string]reconcile.Ref{inputRegistry: d.options.Registry},
			Desired: desired, Spec: s, Summary: summary, Retain: true,
		})
	}
	for _, s := range stack.Services {
		for _, v := range s.ServedVersions() {
			add(Address(s.Name, v.Name), sourceOf(stack, s.Name, v),
				summaryOf(v.Models, *v.Inference))
		}
	}
	if len(stack.Clusters) > 0 {
		add(FrontEndAddress, &source{repository: stack.Name + "/" + frontEndRepository, frontEnd: d.options.FrontEndBinary,
			inference: spec.Inference{BaseImage: spec.ScratchImage}}, "image of the front end")
	}
	return resources
}

// sourceOf finds the files of a version: their paths start at the folder of the stack's file,
// wherever amlaks runs.
func sourceOf(stack *spec.Stack, service string, v spec.Version) *source {
	s := &source{repository: stack.Name + "/" + service, service: service, models: slices.Clone(v.Models), inference: *v.Inference}
	below := func(path *string) {
		if *path != "" {
			*path = filepath.Join(stack.Dir, filepath.FromSlash(*path))
		}
	}
	for i := range s.models {
		below(&s.models[i].Path)
	}
	below(&s.inference.SourceDirectory)
	below(&s.inference.Requirements)
	return s
}

func summaryOf(models []spec.Model, inference spec.Inference) string {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = m.Name + ":" + m.Version
	}
	base := inference.BaseImage
	if at := strings.LastIndex(base, "@sha256:"); at >= 0 {
		base = base[:min(len(base), at+len("@sha256:")+12)]
	}
	return fmt.Sprintf("scoring image: %s on %s", strings.Join(names, " + "), base)
}

// Observe implements reconcile.Driver: one HEAD an image. Nothing is read of what an image
// is made of but stat and, where that is new, contents of local files.
func (d *Driver) Observe(ctx context.Context, request reconcile.Request) ([]reconcile.Live, error) {
	found := make([]*reconcile.Live, len(request.Resources))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(heads)
	for i, r := range request.Resources {
		registry := request.Inputs[r.Address][inputRegistry]
		if registry == "" || registry == reconcile.Unknown {
			continue // it comes with a workspace that is yet to be created
		}
		group.Go(func() error {
			var err error
			if found[i], err = d.look(groupCtx, request.Stack, r, registry); err != nil {
				return fmt.Errorf("%s: %w", r.Address, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var live []reconcile.Live
	for _, l := range found {
		if l != nil {
			live = append(live, *l)
		}
	}
	return live, d.options.Models.Hashes().Save()
}

// heads is how many images are looked for at a time.
const heads = 16

// look gives the image as it is in the registry, or nil.
func (d *Driver) look(ctx context.Context, stack string, r reconcile.Resource, registry string) (*reconcile.Live, error) {
	tag, err := d.tag(ctx, r.Spec.(*source), registry)
	if err != nil {
		return nil, err
	}
	found, err := remote.Head(tag, d.with(ctx)...)
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("look for the image", tag.Registry, err)
	}
	return &reconcile.Live{
		Address: r.Address, Owner: stack, Body: r.Desired, Version: found.Digest.String(), State: reconcile.Settled,
		Outputs: map[string]string{OutputRef: tag.Context().Digest(found.Digest.String()).String()},
	}, nil
}

// Read implements reconcile.Driver: one HEAD.
func (d *Driver) Read(ctx context.Context, step reconcile.Step) (*reconcile.Live, error) {
	r := *step.Resource
	r.Desired = step.Desired
	return d.look(ctx, step.Stack, r, step.Inputs[inputRegistry])
}

// Apply implements reconcile.Driver: it builds what is missing and pushes it.
func (d *Driver) Apply(ctx context.Context, step reconcile.Step) (map[string]string, error) {
	s := step.Resource.Spec.(*source)
	tag, err := d.tag(ctx, s, step.Inputs[inputRegistry])
	if err != nil {
		return nil, err
	}
	step.Progress("hashing its files")
	built, err := d.build(ctx, s, step.Stack, step.Progress)
	if err != nil {
		return nil, err
	}
	digest, err := built.Digest()
	if err != nil {
		return nil, err
	}
	if after, err := d.tag(ctx, s, step.Inputs[inputRegistry]); err != nil {
		return nil, err
	} else if after != tag {
		return nil, errChanged
	}
	// A reader that checks what it reads fails the upload if a file changed, and the tag,
	// which is what the next run looks for, is only written after everything else.
	if err := d.push(ctx, tag, built, step.Progress); err != nil {
		return nil, err
	}
	found, err := remote.Head(tag, d.with(ctx)...)
	if err != nil {
		return nil, explain("read the image back", tag.Registry, err)
	}
	if found.Digest != digest {
		return nil, fmt.Errorf("the registry has %s under %s, not the %s that was pushed: somebody else pushes there too", found.Digest, tag, digest)
	}
	return map[string]string{OutputRef: tag.Context().Digest(digest.String()).String()}, nil
}

// tag is where the image belongs: its repository, and the hash of its inputs.
func (d *Driver) tag(ctx context.Context, s *source, registry string) (name.Tag, error) {
	inputs, err := d.inputs(ctx, s)
	if err != nil {
		return name.Tag{}, err
	}
	return name.NewTag(registry+"/"+s.repository+":in-"+inputs[:32], plainHTTP(registry)...)
}

func (d *Driver) with(ctx context.Context) []remote.Option {
	return append([]remote.Option{remote.WithContext(ctx)}, d.remote...)
}

// plainHTTP is for registries on this machine alone.
func plainHTTP(registry string) []name.Option {
	registry, _, _ = strings.Cut(registry, "/")
	u := url.URL{Host: registry}
	if reconcile.IsLoopback(u.Hostname()) {
		return []name.Option{name.StrictValidation, name.Insecure}
	}
	return []name.Option{name.StrictValidation}
}
