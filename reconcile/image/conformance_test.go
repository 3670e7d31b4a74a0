package image

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/drivertest"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

func TestMain(m *testing.M) { os.Exit(drivertest.Main(m)) }

// TestConformance takes an image through the engine's suite on two registries.
func TestConformance(t *testing.T) {
	t.Parallel()
	nature := drivertest.Nature{
		ContentAddressed: "an image's tag is the hash of its inputs",
		Retained:         "clusters may still run it, and a registry has its own rules of what to keep",
		Ownerless:        "a registry keeps no owner: the stack's name is in the repository's",
		Unprotected:      "what is never deleted needs no protection",
	}
	t.Run("ggcr with a password", func(t *testing.T) {
		t.Parallel()
		drivertest.Run(t, drivertest.World{
			Subject: "image/churn", Nature: nature,
			Start: func(t *testing.T) drivertest.Place {
				g := startRegistry(t)
				g.next = signIn{g.next}
				return newPlace(t, g.host, password{})
			},
		})
	})
	open := nature
	open.NoSecrets = "the sandbox's registry asks for no credentials"
	t.Run("sandbox", func(t *testing.T) {
		t.Parallel()
		drivertest.Run(t, drivertest.World{
			Subject: "image/churn", Nature: open,
			Start: func(t *testing.T) drivertest.Place {
				s, err := sandbox.Start(t.Context(), sandbox.Options{Dir: t.TempDir(), Kubeconfig: []byte("none")})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(s.Close)
				return newPlace(t, s.Registry(), nil)
			},
		})
	})
}

const user, secret = "pusher", "password-of-the-registry"

// password is what signIn wants.
type password struct{}

func (password) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: user, Password: secret}, nil
}

// signIn lets in who knows the password.
type signIn struct{ next http.Handler }

func (s signIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, word, ok := r.BasicAuth(); !ok || name != user || word != secret {
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	s.next.ServeHTTP(w, r)
}

// place is a registry with nothing in it, and the files of a service.
type place struct {
	host     string
	keychain authn.Keychain
	files    string
}

func newPlace(t *testing.T, host string, keychain authn.Keychain) *place {
	t.Helper()
	_, dir := service(t)
	write(t, filepath.Join(dir, "changed", "server"), "#! changed", 0o755)
	return &place{host: host, keychain: keychain, files: dir}
}

func (p *place) Stacks() (ours, theirs string) { return "ours", "theirs" }

// home stands for the driver of Azure: it knows the registry.
type home struct{ host string }

func (h home) Name() string { return "home" }

func (h home) Observe(_ context.Context, r reconcile.Request) ([]reconcile.Live, error) {
	return []reconcile.Live{{Address: "workspace/w", Owner: r.Stack, Outputs: map[string]string{"loginServer": h.host}}}, nil
}

func (h home) Read(context.Context, reconcile.Step) (*reconcile.Live, error) { return nil, nil }

func (h home) Apply(context.Context, reconcile.Step) (map[string]string, error) { return nil, nil }

func (p *place) stack(i drivertest.Invocation) *spec.Stack {
	s := &spec.Stack{Name: i.Stack}
	if i.Revision == drivertest.Without {
		return s
	}
	code := "score"
	if i.Revision == drivertest.Changed {
		code = "changed"
	}
	s.Services = []spec.Service{{
		Name:      "churn",
		Models:    []spec.Model{{Name: "churn", Version: "3", Path: filepath.Join(p.files, "m", "model.json")}},
		Inference: spec.Inference{BaseImage: spec.ScratchImage, SourceDirectory: filepath.Join(p.files, code), Command: []string{"./server"}, Port: 5001},
	}}
	return s
}

func (p *place) Open(t *testing.T, i drivertest.Invocation) ([]reconcile.Driver, []reconcile.Resource) {
	t.Helper()
	options := newDriver(t, i.ReadOnly).options
	options.Keychain, options.wrap = p.keychain, i.Wrap
	driver := New(options)
	resources := append(driver.Resources(p.stack(i)), reconcile.Resource{Address: "workspace/w", Driver: "home", Data: true})
	return []reconcile.Driver{home{p.host}, driver}, resources
}

func (p *place) with(t *testing.T) []remote.Option {
	keychain := p.keychain
	if keychain == nil {
		keychain = authn.NewMultiKeychain()
	}
	return []remote.Option{remote.WithContext(t.Context()), remote.WithAuthFromKeychain(keychain)}
}

func (p *place) tag(t *testing.T, repository, tag string) name.Tag {
	t.Helper()
	parsed, err := name.NewTag(p.host+"/"+repository+":"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// subject is the tag of what Base declares.
func (p *place) subject(t *testing.T, stack string) name.Tag {
	t.Helper()
	driver := newDriver(t, true)
	image := driver.Resources(p.stack(drivertest.Invocation{Stack: stack, Revision: drivertest.Base}))[0]
	tag, err := driver.tag(t.Context(), image.Spec.(*source), p.host)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// read gives a tag's manifest; "" if there is none. All that it names must be there.
func (p *place) read(t *testing.T, tag name.Tag) string {
	t.Helper()
	image, err := remote.Image(tag, p.with(t)...)
	if isNotFound(err) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := image.RawConfigFile(); err != nil {
		t.Errorf("%s: %v", tag, err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed() // a reader that checks the digest
		if err == nil {
			_, err = io.Copy(io.Discard, content)
			content.Close()
		}
		if err != nil {
			t.Errorf("%s: %v", tag, err)
		}
	}
	manifest, err := image.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	return string(manifest)
}

func (p *place) Live(t *testing.T, stack string) string {
	t.Helper()
	return p.read(t, p.subject(t, stack))
}

func (p *place) Objects(t *testing.T) []string {
	t.Helper()
	registry, err := name.NewRegistry(p.host, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	repositories, err := remote.Catalog(t.Context(), registry, p.with(t)...)
	if err != nil {
		t.Fatal(err)
	}
	objects := []string{}
	for _, repository := range repositories {
		tags, err := remote.List(registry.Repo(repository), p.with(t)...)
		if err != nil && !isNotFound(err) {
			t.Fatal(err)
		}
		for _, tag := range tags {
			if !strings.HasPrefix(tag, "sha256:") { // ggcr's own lists digests too
				objects = append(objects, repository+":"+tag)
			}
		}
	}
	slices.Sort(objects)
	return objects
}

// Drift is somebody who deletes the tag.
func (p *place) Drift(t *testing.T) {
	t.Helper()
	p.Remove(t)
}

func (p *place) Remove(t *testing.T) {
	t.Helper()
	if err := remote.Delete(p.subject(t, "ours"), p.with(t)...); err != nil {
		t.Fatal(err)
	}
}

// Touch puts a tag of somebody's beside ours.
func (p *place) Touch(t *testing.T) func() string {
	t.Helper()
	return p.push(t, p.tag(t, "ours/churn", "stable"))
}

func (p *place) Foreign(t *testing.T, owner string) func() string {
	t.Helper()
	if owner == "" {
		return p.push(t, p.tag(t, "churn", "in-0123456789abcdef0123456789abcdef"))
	}
	return p.push(t, p.tag(t, owner+"/churn", p.subject(t, "ours").TagStr()))
}

// push writes an image that nobody else has.
func (p *place) push(t *testing.T, tag name.Tag) func() string {
	t.Helper()
	image, err := random.Image(64, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, image, p.with(t)...); err != nil {
		t.Fatal(err)
	}
	return func() string { return p.read(t, tag) }
}

func (p *place) Secrets(*testing.T) []string {
	if p.keychain == nil {
		return nil
	}
	return []string{secret, fmt.Sprintf("%s:%s", user, secret), base64.StdEncoding.EncodeToString([]byte(user + ":" + secret))}
}
