// Package images keeps the files of container images: each image is pulled
// from a registry and unpacked once, into a folder named by its digest, which
// all containers of the image share and none writes to.
package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/singleflight"
)

// Store is a folder of unpacked images.
type Store struct {
	// Dir holds sha256-HEX/rootfs and sha256-HEX/config.json.
	Dir string
	// Registry is host:port of the registry that is asked over plain HTTP, and only on loopback.
	Registry string
	// OwnerBase is added to the users and groups of an image's files; -1 leaves
	// all files to this process's own user.
	OwnerBase int

	once  singleflight.Group
	mu    sync.Mutex
	known map[string]Image // by reference with digest
}

// Image is an unpacked one.
type Image struct {
	// Digest is that of the image's manifest, sha256:HEX.
	Digest string
	Rootfs string
	Config v1.Config
}

// Get gives the image, pulling it when it is not there. A reference without
// digest is resolved each time; one with a digest costs nothing when the
// image is there.
func (s *Store) Get(ctx context.Context, reference string) (Image, error) {
	ref, err := s.parse(reference)
	if err != nil {
		return Image{}, err
	}
	s.mu.Lock()
	image, ok := s.known[ref.Name()]
	s.mu.Unlock()
	if ok {
		return image, nil
	}
	got := s.once.DoChan(ref.Name(), func() (any, error) { return s.get(context.WithoutCancel(ctx), ref) })
	select {
	case r := <-got:
		if r.Err != nil {
			return Image{}, r.Err
		}
		return r.Val.(Image), nil
	case <-ctx.Done():
		return Image{}, ctx.Err()
	}
}

// parse reads a reference. Plain HTTP is for registries on loopback alone.
func (s *Store) parse(reference string) (name.Reference, error) {
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, err
	}
	registry := ref.Context().RegistryStr()
	host, _, err := net.SplitHostPort(registry)
	if err != nil {
		return ref, nil
	}
	if ip := net.ParseIP(host); registry == s.Registry || host == "localhost" || ip != nil && ip.IsLoopback() {
		return name.ParseReference(reference, name.Insecure)
	}
	return ref, nil
}

func (s *Store) get(ctx context.Context, ref name.Reference) (Image, error) {
	if d, ok := ref.(name.Digest); ok {
		if image, err := s.open(d.DigestStr()); err == nil {
			s.remember(ref, image)
			return image, nil
		}
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: architecture}))
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	image, err := s.open(digest.String())
	if errors.Is(err, fs.ErrNotExist) {
		// Two references may lead to one image: one of them unpacks it.
		var made any
		made, err, _ = s.once.Do(digest.String(), func() (any, error) {
			if image, err := s.open(digest.String()); err == nil {
				return image, nil
			}
			return s.unpack(digest.String(), img)
		})
		if err == nil {
			image = made.(Image)
		}
	}
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	if _, ok := ref.(name.Digest); ok {
		s.remember(ref, image)
	}
	return image, nil
}

func (s *Store) remember(ref name.Reference, image Image) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]Image{}
	}
	s.known[ref.Name()] = image
}

func (s *Store) folder(digest string) string {
	return filepath.Join(s.Dir, strings.ReplaceAll(digest, ":", "-"))
}

// open gives an image that is unpacked: its config is written last.
func (s *Store) open(digest string) (Image, error) {
	dir := s.folder(digest)
	body, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return Image{}, err
	}
	image := Image{Digest: digest, Rootfs: filepath.Join(dir, "rootfs")}
	return image, json.Unmarshal(body, &image.Config)
}

func (s *Store) unpack(digest string, img v1.Image) (Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return Image{}, err
	}
	layers, err := img.Layers()
	if err != nil {
		return Image{}, err
	}
	if err := os.MkdirAll(s.Dir, 0o711); err != nil {
		return Image{}, err
	}
	temp, err := os.MkdirTemp(s.Dir, ".unpacking-")
	if err != nil {
		return Image{}, err
	}
	// The folder is gone from here once it has its name.
	defer removeAll(temp)
	rootfs := filepath.Join(temp, "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		return Image{}, err
	}
	for _, layer := range layers {
		if err := s.unpackLayer(rootfs, layer); err != nil {
			return Image{}, err
		}
	}
	body, err := json.Marshal(config.Config)
	if err != nil {
		return Image{}, err
	}
	if err := os.WriteFile(filepath.Join(temp, "config.json"), body, 0o644); err != nil {
		return Image{}, err
	}
	if err := os.Chmod(temp, 0o711); err != nil {
		return Image{}, err
	}
	if err := os.Rename(temp, s.folder(digest)); err != nil && !errors.Is(err, fs.ErrExist) {
		return Image{}, err
	}
	return s.open(digest)
}

// removeAll also removes folders that their owner may not write to.
func removeAll(dir string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_ = os.Chmod(path, 0o700)
		}
		return nil
	})
	_ = os.RemoveAll(dir)
}
