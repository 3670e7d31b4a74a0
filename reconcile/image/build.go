package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/format/gitignore"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// The layout that v1 gave its images, and that its scripts and servers rely on.
const (
	appRoot  = "var/azureml-app"
	modelDir = appRoot + "/azureml-models"
)

const (
	// format is part of every input hash: raise it when the same inputs would give other bytes.
	format = "2"
	// alone is the size from which a model file has a layer of its own, so that it is
	// neither sent nor stored again when another file beside it changes.
	alone = 64 << 20
	// ignoreFile keeps files of the source folder out of the image, as v1's .amlignore did.
	ignoreFile = ".amlignore"
	maxIgnore  = 1 << 20
	// runAs is who images on an empty base run as.
	runAs = "65532:65532"
)

// inputs is the hash of everything that the image's bytes depend on.
func (d *Driver) inputs(ctx context.Context, s *source) (string, error) {
	hashes := d.options.Models.Hashes()
	what := map[string]any{"format": format}
	if s.frontEnd != "" {
		digest, err := hashes.File(s.frontEnd)
		if err != nil {
			return "", err
		}
		what["frontEnd"] = digest
	} else {
		what["base"], what["command"], what["entryScript"] = s.inference.BaseImage, s.inference.Command, s.inference.EntryScript
		what["port"] = s.inference.Port
		var models []string
		for _, m := range s.models {
			identity, err := d.options.Models.Identity(ctx, m)
			if err != nil {
				return "", err
			}
			if m.Path != "" {
				identity += " " + filepath.Base(m.Path) // its name in the image
			}
			models = append(models, m.Name+":"+m.Version+"="+identity)
		}
		what["models"] = models
		code, err := s.code()
		if err != nil {
			return "", err
		}
		var files []string
		for _, e := range code {
			content := "-> " + e.link
			if e.link == "" {
				if content, err = hashes.File(e.source); err != nil {
					return "", err
				}
			}
			files = append(files, fmt.Sprintf("%s %o %s", e.target, e.mode, content))
		}
		what["code"] = files
	}
	data, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// build makes the image. Its layers stay in the files that they come from.
func (d *Driver) build(ctx context.Context, s *source, stack string, progress func(string)) (v1.Image, error) {
	if s.frontEnd != "" {
		return d.buildFrontEnd(ctx, s, stack)
	}
	base, err := d.base(ctx, s.inference.BaseImage)
	if err != nil {
		return nil, err
	}
	var groups [][]entry
	for _, m := range s.models {
		files, err := d.options.Models.Files(ctx, m, progress)
		if err != nil {
			return nil, err
		}
		more, err := modelLayers(m, files)
		if err != nil {
			return nil, fmt.Errorf("model %s:%s: %w", m.Name, m.Version, err)
		}
		groups = append(groups, more...)
	}
	code, err := s.code()
	if err != nil {
		return nil, err
	}
	if len(code) > 0 {
		groups = append(groups, code)
	}
	image, err := appendLayers(ctx, base, groups)
	if err != nil {
		return nil, err
	}
	return configure(image, stack, s)
}

// code is what goes to AML_APP_ROOT.
func (s *source) code() ([]entry, error) {
	if s.inference.SourceDirectory == "" {
		return nil, nil
	}
	skip, err := ignored(s.inference.SourceDirectory)
	if err != nil {
		return nil, err
	}
	entries, err := listFiles(s.inference.SourceDirectory, appRoot, skip)
	if err != nil {
		return nil, fmt.Errorf("sourceDirectory: %w", err)
	}
	return entries, nil
}

// ignored reads the folder's .amlignore, whose patterns are those of .gitignore. What is
// git's own never belongs into an image.
func ignored(dir string) (func(string, bool) bool, error) {
	patterns := []gitignore.Pattern{gitignore.ParsePattern(".git", nil), gitignore.ParsePattern("/"+ignoreFile, nil)}
	file, err := os.Open(filepath.Join(dir, ignoreFile))
	if err == nil {
		data, readErr := io.ReadAll(io.LimitReader(file, maxIgnore))
		if err := errors.Join(readErr, file.Close()); err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				patterns = append(patterns, gitignore.ParsePattern(line, nil))
			}
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	matcher := gitignore.NewMatcher(patterns)
	return func(rel string, isDir bool) bool { return matcher.Match(strings.Split(rel, "/"), isDir) }, nil
}

// modelLayers lays out a model below azureml-models/NAME/VERSION: a file by its name, a
// folder as that folder. Big files have a layer each.
func modelLayers(m spec.Model, files string) ([][]entry, error) {
	target := path.Join(modelDir, m.Name, m.Version)
	if info, err := os.Stat(files); err != nil {
		return nil, err
	} else if m.Path != "" && info.IsDir() {
		target = path.Join(target, filepath.Base(files))
	}
	entries, err := listFiles(files, target, nil)
	if err != nil {
		return nil, err
	}
	var small []entry
	var groups [][]entry
	for _, e := range entries {
		if e.size >= alone {
			groups = append(groups, []entry{e})
			continue
		}
		small = append(small, e)
	}
	if len(small) > 0 {
		groups = append(groups, small)
	}
	return groups, nil
}

func (d *Driver) buildFrontEnd(ctx context.Context, s *source, stack string) (v1.Image, error) {
	info, err := os.Stat(s.frontEnd)
	if err != nil {
		return nil, err
	}
	binary := entry{source: s.frontEnd, target: "amlaks-fe", mode: 0o755, size: info.Size()}
	image, err := appendLayers(ctx, scratch(), [][]entry{{binary}})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, withConfig(image, func(c *v1.ConfigFile) {
		c.Config.Entrypoint, c.Config.User = []string{"/amlaks-fe"}, runAs
		c.Config.Labels = map[string]string{"amlaks.io/stack": stack}
	}))
}

func scratch() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// base fetches the base image's manifest; its layers are only ever mounted or copied.
func (d *Driver) base(ctx context.Context, ref string) (v1.Image, error) {
	if ref == spec.ScratchImage {
		return scratch(), nil
	}
	digest, err := name.NewDigest(ref, plainHTTP(ref)...)
	if err != nil {
		return nil, fmt.Errorf("baseImage: %w", err)
	}
	image, err := remote.Image(digest, append(d.with(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))...)
	if isNotFound(err) {
		return nil, &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: fmt.Errorf("base image %s does not exist", ref), Hint: "check inference.baseImage"}
	}
	if err != nil {
		return nil, explain("read the base image", digest.Registry, err)
	}
	return image, nil
}

func appendLayers(ctx context.Context, image v1.Image, groups [][]entry) (v1.Image, error) {
	mediaType := types.OCIUncompressedLayer
	if base, err := image.MediaType(); err != nil {
		return nil, err
	} else if base == types.DockerManifestSchema2 {
		mediaType = types.DockerUncompressedLayer // a manifest's types are of one family
	}
	additions := make([]mutate.Addendum, 0, len(groups))
	for _, entries := range groups {
		l, err := newLayer(ctx, entries)
		if err != nil {
			return nil, err
		}
		additions = append(additions, mutate.Addendum{Layer: l, MediaType: mediaType, History: v1.History{CreatedBy: "amlaks"}})
	}
	return mutate.Append(image, additions...)
}

// configure writes v1's runtime contract into the image.
func configure(image v1.Image, stack string, s *source) (v1.Image, error) {
	return mutate.ConfigFile(image, withConfig(image, func(c *v1.ConfigFile) {
		models := "/" + modelDir
		if len(s.models) == 1 {
			models = "/" + path.Join(modelDir, s.models[0].Name, s.models[0].Version)
		}
		setEnv(&c.Config, "AML_APP_ROOT", "/"+appRoot)
		if len(s.models) > 0 {
			setEnv(&c.Config, "AZUREML_MODEL_DIR", models)
		}
		if s.inference.EntryScript != "" {
			setEnv(&c.Config, "AZUREML_ENTRY_SCRIPT", s.inference.EntryScript)
		}
		c.Config.WorkingDir = "/" + appRoot
		if len(s.inference.Command) > 0 {
			c.Config.Entrypoint, c.Config.Cmd = slices.Clone(s.inference.Command), nil
			// Runtimes differ on what a relative program is relative to.
			if program := c.Config.Entrypoint[0]; strings.HasPrefix(program, "./") {
				c.Config.Entrypoint[0] = path.Join("/"+appRoot, program)
			}
		}
		if s.inference.BaseImage == spec.ScratchImage {
			c.Config.User = runAs
		}
		c.Config.ExposedPorts = map[string]struct{}{strconv.Itoa(s.inference.Port) + "/tcp": {}}
		if c.Config.Labels == nil {
			c.Config.Labels = map[string]string{}
		}
		c.Config.Labels["amlaks.io/stack"], c.Config.Labels["amlaks.io/service"] = stack, s.service
	}))
}

// withConfig gives a changed copy of an image's configuration, with nothing in it that
// depends on when or where it was made.
func withConfig(image v1.Image, change func(*v1.ConfigFile)) *v1.ConfigFile {
	file, err := image.ConfigFile()
	if err != nil {
		file = &v1.ConfigFile{} // mutate reports the same error when it reads the image
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Created, file.Container = v1.Time{Time: epoch()}, ""
	change(file)
	return file
}

func setEnv(c *v1.Config, key, value string) {
	c.Env = slices.DeleteFunc(c.Env, func(e string) bool { return strings.HasPrefix(e, key+"=") })
	c.Env = append(c.Env, key+"="+value)
}
