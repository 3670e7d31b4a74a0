// Package image is the driver for scoring images: a base pinned by digest, models and code on
// top of it, pushed without Docker. An image's identity is the hash of its inputs, kept as the
// tag in-HASH beside its digest, so an unchanged service costs one HEAD and reads no model byte.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
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
	connection := remote.DefaultTransport
	if o.wrap != nil {
		connection = o.wrap(connection)
	}
	var next http.RoundTripper = &pingOnce{next: secureTransport{connection}, known: map[string]*ping{}}
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

// readOnlyTransport is promise 1 of the design. A registry's token server is asked by GET or
// by a POST that changes nothing; both have no /v2/ in their path.
type readOnlyTransport struct{ next http.RoundTripper }

func (t readOnlyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && strings.HasPrefix(r.URL.Path, "/v2/") {
		return nil, fmt.Errorf("%s %s refused: this command only reads", r.Method, r.URL.Path)
	}
	return t.next.RoundTrip(r)
}

// secureTransport keeps plain HTTP on this machine. ggcr would fall back to it for private
// addresses and names that end in .local, and sends credentials there.
type secureTransport struct{ next http.RoundTripper }

func (t secureTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !reconcile.IsLoopback(r.URL.Hostname()) {
		return nil, fmt.Errorf("%s refused: only a registry on this machine may be spoken to without TLS", r.URL.Scheme+"://"+r.URL.Host)
	}
	return t.next.RoundTrip(r)
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

// progressEvery is how often an upload says how far it is.
const progressEvery = 2 * time.Second

// push writes layers, configuration and manifest, in that order.
func (d *Driver) push(ctx context.Context, tag name.Tag, built v1.Image, progress func(string)) error {
	updates := make(chan v1.Update, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		said := time.Now()
		for update := range updates {
			if now := time.Now(); now.Sub(said) >= progressEvery {
				said = now
				progress(fmt.Sprintf("pushed %d of %d MiB", update.Complete>>20, update.Total>>20))
			}
		}
	}()
	err := remote.Write(tag, built, append(d.with(ctx), remote.WithProgress(updates))...)
	<-done
	if errors.Is(err, errChanged) {
		return err
	}
	return explain("push the image", tag.Registry, err)
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

func isNotFound(err error) bool {
	var response *transport.Error
	return errors.As(err, &response) && response.StatusCode == http.StatusNotFound
}

// explain says what a registry's answer means.
func explain(doing string, registry name.Registry, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	failure := &reconcile.Failure{
		Reason: reconcile.ReasonUnavailable,
		Err:    fmt.Errorf("%s: registry %s cannot be reached: %w", doing, registry, err),
		Hint:   "is its name right (workspace.registry), and may this machine reach it?",
	}
	var response *transport.Error
	if !errors.As(err, &response) {
		if errors.Is(err, io.ErrUnexpectedEOF) || os.IsNotExist(err) {
			return fmt.Errorf("%s: %w", doing, err)
		}
		return failure
	}
	failure.Err = fmt.Errorf("%s: registry %s: %w", doing, registry, err)
	switch {
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs AcrPush on the registry (AcrPull to plan)"
	case response.StatusCode == http.StatusNotFound:
		failure.Reason = reconcile.ReasonNotFound
		failure.Hint = ""
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason = reconcile.ReasonThrottled
		failure.Hint = "the registry's request budget is used up: run apply again in a minute"
	case response.StatusCode >= http.StatusInternalServerError:
		failure.Hint = "the registry answered this to every retry: run apply again later"
	}
	return failure
}
