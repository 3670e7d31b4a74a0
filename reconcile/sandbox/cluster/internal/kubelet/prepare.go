package kubelet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/images"
	"github.com/amlaks/amlaks/reconcile/sandbox/cluster/internal/isolate"
)

// prepare makes the process's description from the container's and its image's.
func (c *container) prepare(image images.Image) (isolate.Container, error) {
	w, ctx := c.w, c.w.ctx
	out := isolate.Container{Rootfs: image.Rootfs, Dir: c.spec.WorkingDir}
	if out.Dir == "" {
		out.Dir = image.Config.WorkingDir
	}
	if err := c.identity(&out, image); err != nil {
		return out, err
	}
	if s := c.spec.SecurityContext; s != nil && s.ReadOnlyRootFilesystem != nil {
		out.ReadOnly = *s.ReadOnlyRootFilesystem
	}
	env, err := c.environment(ctx)
	if err != nil {
		return out, err
	}
	out.Env = mergeEnv(image.Config.Env, env)
	expand := func(in []string) []string {
		var to []string
		for _, s := range in {
			to = append(to, expandVariables(s, env))
		}
		return to
	}
	// Kubernetes' rule: command replaces the entry point and drops the image's
	// arguments with it; args replace those alone.
	switch {
	case len(c.spec.Command) > 0:
		out.Args = append(expand(c.spec.Command), expand(c.spec.Args)...)
	case len(c.spec.Args) > 0:
		out.Args = append(append(out.Args, image.Config.Entrypoint...), expand(c.spec.Args)...)
	default:
		out.Args = append(append(out.Args, image.Config.Entrypoint...), image.Config.Cmd...)
	}
	out.Hosts = fmt.Sprintf("127.0.0.1\tlocalhost\n%s\t%s\n", w.address(), w.hostname())
	out.Mounts, err = w.mounts(ctx, c.spec.VolumeMounts)
	return out, err
}

func (w *workload) address() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ip
}

// identity sets user and groups: the container's, else the pod's, else the image's.
func (c *container) identity(out *isolate.Container, image images.Image) error {
	uid, gid, err := imageUser(image)
	if err != nil {
		return err
	}
	var nonRoot bool
	if p := c.w.spec.SecurityContext; p != nil {
		set(&uid, p.RunAsUser)
		set(&gid, p.RunAsGroup)
		nonRoot = p.RunAsNonRoot != nil && *p.RunAsNonRoot
		for _, g := range p.SupplementalGroups {
			out.Groups = append(out.Groups, int(g))
		}
		if p.FSGroup != nil {
			out.Groups = append(out.Groups, int(*p.FSGroup))
		}
	}
	if s := c.spec.SecurityContext; s != nil {
		set(&uid, s.RunAsUser)
		set(&gid, s.RunAsGroup)
		if s.RunAsNonRoot != nil {
			nonRoot = *s.RunAsNonRoot
		}
	}
	if nonRoot && uid == 0 {
		return errors.New("container has runAsNonRoot and image will run as root")
	}
	out.UID, out.GID = int(uid), int(gid)
	return nil
}

func set(to, from *int64) {
	if from != nil {
		*to = *from
	}
}

// imageUser reads the image's USER: user[:group], by number or by name in the
// image's /etc/passwd.
func imageUser(image images.Image) (uid, gid int64, err error) {
	user, group, _ := strings.Cut(image.Config.User, ":")
	if user == "" {
		return 0, 0, nil
	}
	if uid, err = strconv.ParseInt(user, 10, 32); err != nil {
		if uid, gid, err = lookUp(image.Rootfs, user); err != nil {
			return 0, 0, fmt.Errorf("image user %q: %w", user, err)
		}
	}
	if group != "" {
		if gid, err = strconv.ParseInt(group, 10, 32); err != nil {
			return 0, 0, fmt.Errorf("image group %q is not a number", group)
		}
	}
	return uid, gid, nil
}

func lookUp(rootfs, user string) (uid, gid int64, err error) {
	root, err := os.OpenRoot(rootfs)
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	f, err := root.Open("etc/passwd")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for scan := bufio.NewScanner(io.LimitReader(f, 1<<20)); scan.Scan(); {
		fields := strings.Split(scan.Text(), ":")
		if len(fields) > 3 && fields[0] == user {
			if uid, err = strconv.ParseInt(fields[2], 10, 32); err != nil {
				return 0, 0, err
			}
			gid, err = strconv.ParseInt(fields[3], 10, 32)
			return uid, gid, err
		}
	}
	return 0, 0, errors.New("not in /etc/passwd")
}

// imageID is the reference by digest.
func imageID(reference, digest string) string {
	repository, _, _ := strings.Cut(reference, "@")
	if i := strings.LastIndex(repository, ":"); i > strings.LastIndex(repository, "/") {
		repository = repository[:i]
	}
	return repository + "@" + digest
}

type variable struct{ name, value string }

// environment is the container's own variables, in order.
func (c *container) environment(ctx context.Context) ([]variable, error) {
	w := c.w
	out := []variable{
		{"KUBERNETES_SERVICE_HOST", w.p.APIServerHost},
		{"KUBERNETES_SERVICE_PORT", w.p.APIServerPort},
		{"KUBERNETES_SERVICE_PORT_HTTPS", w.p.APIServerPort},
		{"HOSTNAME", w.hostname()},
	}
	for _, from := range c.spec.EnvFrom {
		values, err := w.envFrom(ctx, from)
		if err != nil {
			return nil, err
		}
		for _, k := range sortedKeys(values) {
			out = append(out, variable{from.Prefix + k, string(values[k])})
		}
	}
	for _, e := range c.spec.Env {
		value, ok, err := c.value(ctx, e, out)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, variable{e.Name, value})
		}
	}
	return out, nil
}

func (w *workload) envFrom(ctx context.Context, from corev1.EnvFromSource) (map[string][]byte, error) {
	switch {
	case from.SecretRef != nil:
		return w.secret(ctx, from.SecretRef.Name, from.SecretRef.Optional)
	case from.ConfigMapRef != nil:
		return w.configMap(ctx, from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	}
	return nil, nil
}

func (c *container) value(ctx context.Context, e corev1.EnvVar, before []variable) (string, bool, error) {
	w, from := c.w, e.ValueFrom
	switch {
	case from == nil:
		return expandVariables(e.Value, before), true, nil
	case from.SecretKeyRef != nil:
		values, err := w.secret(ctx, from.SecretKeyRef.Name, from.SecretKeyRef.Optional)
		return pick(values, from.SecretKeyRef.Key, "secret "+from.SecretKeyRef.Name, from.SecretKeyRef.Optional, err)
	case from.ConfigMapKeyRef != nil:
		values, err := w.configMap(ctx, from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional)
		return pick(values, from.ConfigMapKeyRef.Key, "configmap "+from.ConfigMapKeyRef.Name, from.ConfigMapKeyRef.Optional, err)
	case from.FieldRef != nil:
		value, err := w.field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := w.resource(c.spec.Name, from.ResourceFieldRef)
		return value, true, err
	}
	return "", false, fmt.Errorf("variable %s has a source that this node does not know", e.Name)
}

func pick(values map[string][]byte, key, where string, optional *bool, err error) (string, bool, error) {
	if err != nil {
		return "", false, err
	}
	value, ok := values[key]
	if !ok && (optional == nil || !*optional) {
		return "", false, fmt.Errorf("couldn't find key %s in %s", key, where)
	}
	return string(value), ok, nil
}

// secret gives the data of a Secret of the pod's namespace.
func (w *workload) secret(ctx context.Context, name string, optional *bool) (map[string][]byte, error) {
	s, err := w.p.Client.CoreV1().Secrets(w.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, absent(err, optional)
	}
	return s.Data, nil
}

func (w *workload) configMap(ctx context.Context, name string, optional *bool) (map[string][]byte, error) {
	m, err := w.p.Client.CoreV1().ConfigMaps(w.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, absent(err, optional)
	}
	out := map[string][]byte{}
	for k, v := range m.Data {
		out[k] = []byte(v)
	}
	for k, v := range m.BinaryData {
		out[k] = v
	}
	return out, nil
}

func absent(err error, optional *bool) error {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return nil
	}
	return err
}

// mergeEnv lays the container's variables over the image's.
func mergeEnv(image []string, own []variable) []string {
	at := map[string]int{}
	var out []string
	add := func(name, entry string) {
		if i, ok := at[name]; ok {
			out[i] = entry
			return
		}
		at[name] = len(out)
		out = append(out, entry)
	}
	for _, e := range image {
		name, _, _ := strings.Cut(e, "=")
		add(name, e)
	}
	for _, v := range own {
		add(v.name, v.name+"="+v.value)
	}
	if _, ok := at["PATH"]; !ok {
		out = append(out, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return out
}

// expandVariables puts values in for $(NAME); $$ is a $, and an unknown name stays as it is.
func expandVariables(s string, env []variable) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			out.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			out.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			value, ok := "", false
			if end > 0 {
				for _, v := range env {
					if v.name == s[i+2:i+end] {
						value, ok = v.value, true
					}
				}
			}
			if !ok {
				out.WriteByte('$')
				continue
			}
			out.WriteString(value)
			i += end
		default:
			out.WriteByte('$')
		}
	}
	return out.String()
}

func cleanSub(p string) (string, error) {
	if !filepath.IsLocal(p) {
		return "", fmt.Errorf("subPath %q leads out of its volume", p)
	}
	return p, nil
}
