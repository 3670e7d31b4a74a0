package kubelet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// file is one of a volume's.
type file struct {
	body []byte
	mode fs.FileMode
}

// defaultMode is Kubernetes' for files of Secrets, ConfigMaps and the like.
const defaultMode = 0o644

// mounts makes the volumes that the mounts name and says where they are.
func (w *workload) mounts(ctx context.Context, mounts []corev1.VolumeMount) ([]isolate.Mount, error) {
	w.volumes.Lock()
	defer w.volumes.Unlock()
	var out []isolate.Mount
	for _, m := range mounts {
		volume := w.volume(m.Name)
		if volume == nil {
			return nil, fmt.Errorf("no volume %q", m.Name)
		}
		dir, err := w.makeVolume(ctx, volume)
		if err != nil {
			return nil, fmt.Errorf("volume %q: %w", m.Name, err)
		}
		mount := isolate.Mount{Source: dir, Target: filepath.Clean("/" + m.MountPath), ReadOnly: m.ReadOnly || volume.EmptyDir == nil}
		if m.SubPath != "" {
			if mount.Source, err = subPath(dir, m.SubPath, volume.EmptyDir != nil); err != nil {
				return nil, err
			}
		}
		out = append(out, mount)
	}
	return out, nil
}

func (w *workload) volume(name string) *corev1.Volume {
	for i := range w.spec.Volumes {
		if w.spec.Volumes[i].Name == name {
			return &w.spec.Volumes[i]
		}
	}
	return nil
}

// subPath gives a path inside a volume; what the pod has put there must not
// lead out of it.
func subPath(dir, sub string, make bool) (string, error) {
	sub, err := cleanSub(sub)
	if err != nil {
		return "", err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	if _, err := root.Stat(sub); errors.Is(err, fs.ErrNotExist) && make {
		if err := root.MkdirAll(sub, 0o777); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(filepath.Join(dir, sub))
}

func (w *workload) makeVolume(ctx context.Context, v *corev1.Volume) (string, error) {
	dir := filepath.Join(w.dir, "volumes", v.Name)
	if v.EmptyDir != nil {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return "", err
		}
		// Past the umask: the pod's user is none of this machine's.
		return dir, os.Chmod(dir, 0o777)
	}
	files, err := w.files(ctx, v)
	if err != nil {
		return "", err
	}
	return dir, w.write(dir, files)
}

// files is what a volume shows.
func (w *workload) files(ctx context.Context, v *corev1.Volume) (map[string]file, error) {
	out := map[string]file{}
	switch {
	case v.Secret != nil:
		data, err := w.secret(ctx, v.Secret.SecretName, v.Secret.Optional)
		if err != nil {
			return nil, err
		}
		return out, project(out, data, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
	case v.ConfigMap != nil:
		data, err := w.configMap(ctx, v.ConfigMap.Name, v.ConfigMap.Optional)
		if err != nil {
			return nil, err
		}
		return out, project(out, data, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
	case v.DownwardAPI != nil:
		return out, w.downward(out, v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
	case v.Projected != nil:
		for _, s := range v.Projected.Sources {
			if err := w.projected(ctx, out, s, v.Projected.DefaultMode); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return nil, errors.New("this node has no volumes but secret, configMap, downwardAPI, projected and emptyDir")
}

func (w *workload) projected(ctx context.Context, out map[string]file, s corev1.VolumeProjection, mode *int32) error {
	switch {
	case s.Secret != nil:
		data, err := w.secret(ctx, s.Secret.Name, s.Secret.Optional)
		if err != nil {
			return err
		}
		return project(out, data, s.Secret.Items, mode, s.Secret.Optional)
	case s.ConfigMap != nil:
		data, err := w.configMap(ctx, s.ConfigMap.Name, s.ConfigMap.Optional)
		if err != nil {
			return err
		}
		return project(out, data, s.ConfigMap.Items, mode, s.ConfigMap.Optional)
	case s.DownwardAPI != nil:
		return w.downward(out, s.DownwardAPI.Items, mode)
	case s.ServiceAccountToken != nil:
		t := s.ServiceAccountToken
		request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
			ExpirationSeconds: t.ExpirationSeconds,
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: w.name, UID: w.uid},
		}}
		if t.Audience != "" {
			request.Spec.Audiences = []string{t.Audience}
		}
		got, err := w.p.Client.CoreV1().ServiceAccounts(w.namespace).CreateToken(ctx, w.spec.ServiceAccountName, request, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("token of service account %s: %w", w.spec.ServiceAccountName, err)
		}
		out[t.Path] = file{[]byte(got.Status.Token), modeOf(mode, nil)}
		return nil
	}
	return errors.New("this node projects no volume sources but secret, configMap, downwardAPI and serviceAccountToken")
}

func (w *workload) downward(out map[string]file, items []corev1.DownwardAPIVolumeFile, mode *int32) error {
	for _, i := range items {
		var value string
		var err error
		switch {
		case i.FieldRef != nil:
			value, err = w.field(i.FieldRef.FieldPath)
		case i.ResourceFieldRef != nil:
			value, err = w.resource("", i.ResourceFieldRef)
		}
		if err != nil {
			return err
		}
		out[i.Path] = file{[]byte(value), modeOf(mode, i.Mode)}
	}
	return nil
}

func modeOf(volume, item *int32) fs.FileMode {
	switch {
	case item != nil:
		return fs.FileMode(*item).Perm()
	case volume != nil:
		return fs.FileMode(*volume).Perm()
	}
	return defaultMode
}

// project picks the items of data, or takes all of it.
func project(out map[string]file, data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional *bool) error {
	if len(items) == 0 {
		for k, v := range data {
			out[k] = file{v, modeOf(mode, nil)}
		}
		return nil
	}
	for _, i := range items {
		v, ok := data[i.Key]
		if !ok {
			if optional != nil && *optional {
				continue
			}
			return fmt.Errorf("references non-existent key: %s", i.Key)
		}
		out[i.Path] = file{v, modeOf(mode, i.Mode)}
	}
	return nil
}

// current is the link by which all files of a volume change at once, as the
// kubelet has it: FILE -> ..data/FILE, ..data -> a folder of this writing.
const current = "..data"

// write puts the files into the volume. Readers see all of the old or all of the new.
func (w *workload) write(dir string, files map[string]file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, _ := os.Readlink(filepath.Join(dir, current))
	next := "..new-" + rand.Text()
	for _, name := range sortedKeys(files) {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("file %q leads out of its volume", name)
		}
		path := filepath.Join(dir, next, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name].body, 0o600); err != nil {
			return err
		}
		mode := files[name].mode
		if os.Geteuid() == 0 {
			group := isolate.HostBase
			if s := w.spec.SecurityContext; s != nil && s.FSGroup != nil {
				group += int(*s.FSGroup)
				mode |= 0o040
			}
			if err := os.Lchown(path, isolate.HostBase, group); err != nil {
				return err
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, next), 0o755); err != nil {
		return err
	}
	link := filepath.Join(dir, "..link")
	_ = os.Remove(link) // of a writing that was killed
	if err := os.Symlink(next, link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(dir, current)); err != nil {
		return err
	}
	return tidy(dir, files, old)
}

// tidy links what is new and removes what is no more.
func tidy(dir string, files map[string]file, old string) error {
	top := map[string]bool{}
	for name := range files {
		first, _, _ := strings.Cut(name, "/")
		top[first] = true
		err := os.Symlink(filepath.Join(current, first), filepath.Join(dir, first))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "..") && !top[e.Name()] {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if old != "" && strings.HasPrefix(old, "..new-") {
		return os.RemoveAll(filepath.Join(dir, old))
	}
	return nil
}

// tokenRefresh is well within the shortest life that a token may have (ten minutes).
const tokenRefresh = 6 * time.Minute

// keepVolumes writes volumes with tokens anew from time to time.
func (w *workload) keepVolumes() {
	if !hasToken(w.spec) {
		return
	}
	tick := time.NewTicker(tokenRefresh)
	defer tick.Stop()
	for {
		select {
		case <-w.ctx.Done():
			return
		case <-tick.C:
			w.refreshVolumes()
		}
	}
}

// refreshVolumes writes all volumes but emptyDirs anew.
func (w *workload) refreshVolumes() {
	w.volumes.Lock()
	defer w.volumes.Unlock()
	for i := range w.spec.Volumes {
		v := &w.spec.Volumes[i]
		if v.EmptyDir != nil || w.ctx.Err() != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(w.dir, "volumes", v.Name)); err != nil {
			continue // not yet mounted
		}
		if _, err := w.makeVolume(w.ctx, v); err != nil && w.ctx.Err() == nil {
			w.event(corev1.EventTypeWarning, "FailedMount", "volume %q: %v", v.Name, err)
		}
	}
}

// uses says whether a volume of the pod shows the object.
func (w *workload) uses(kind, namespace, name string) bool {
	if namespace != w.namespace {
		return false
	}
	for _, v := range w.spec.Volumes {
		secrets, maps := []string{}, []string{}
		if v.Secret != nil {
			secrets = append(secrets, v.Secret.SecretName)
		}
		if v.ConfigMap != nil {
			maps = append(maps, v.ConfigMap.Name)
		}
		if v.Projected != nil {
			for _, s := range v.Projected.Sources {
				if s.Secret != nil {
					secrets = append(secrets, s.Secret.Name)
				}
				if s.ConfigMap != nil {
					maps = append(maps, s.ConfigMap.Name)
				}
			}
		}
		names := secrets
		if kind == "ConfigMap" {
			names = maps
		}
		for _, n := range names {
			if n == name {
				return true
			}
		}
	}
	return false
}
