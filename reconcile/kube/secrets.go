package kube

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/spec"
)

// maxSecret is what Kubernetes takes in one Secret.
const maxSecret = 1 << 20

// secretsName is the Secret with a backend's inference.secrets.
func secretsName(backend string) string { return backend + "-env" }

// secrets renders the Secret whose keys are environment variables of the backend's
// containers. A changed value reaches a container when it next starts.
func (r *renderer) secrets(backend string, v spec.Version, labels map[string]string) {
	data := map[string][]byte{}
	for _, variable := range slices.Sorted(maps.Keys(v.Inference.Secrets)) {
		ref := v.Inference.Secrets[variable]
		if ref.KeyVault != "" {
			continue // validate warns of it
		}
		value, err := r.driver.readSecret(ref)
		if err != nil {
			r.err = fmt.Errorf("inference.secrets.%s: %w", variable, err)
			return
		}
		data[variable] = value
	}
	if len(data) == 0 {
		return
	}
	name := secretsName(backend)
	r.add(object{kind: kindSecret, namespace: r.namespace, name: name, values: true},
		core.Secret(name, r.namespace).WithLabels(labels).WithType(corev1.SecretTypeOpaque).WithData(data),
		count(len(data), "environment variable")+" from references")
	if r.err != nil {
		return
	}
	secret := &r.resources[len(r.resources)-1]
	secret.Compare = map[string]reconcile.Comparator{}
	for variable := range data {
		secret.Compare["data."+variable] = reconcile.Sensitive
	}
}

// secretEnvironment gives the variables that come from that Secret.
func secretEnvironment(backend string, v spec.Version) []*core.EnvVarApplyConfiguration {
	var out []*core.EnvVarApplyConfiguration
	for _, variable := range slices.Sorted(maps.Keys(v.Inference.Secrets)) {
		if v.Inference.Secrets[variable].KeyVault == "" {
			out = append(out, core.EnvVar().WithName(variable).WithValueFrom(core.EnvVarSource().WithSecretKeyRef(
				core.SecretKeySelector().WithName(secretsName(backend)).WithKey(variable))))
		}
	}
	return out
}

// readSecret reads a reference where amlaks runs. A file's last newline is not part of it.
func (d *Driver) readSecret(ref spec.SecretRef) ([]byte, error) {
	if ref.Env != "" {
		value := d.getenv(ref.Env)
		if value == "" {
			return nil, &reconcile.Failure{
				Reason: reconcile.ReasonNotFound,
				Err:    fmt.Errorf("the environment variable %s is not set", ref.Env),
				Hint:   "plan and apply read it where they run",
			}
		}
		return []byte(value), nil
	}
	path := ref.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.stack.Dir, path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: err, Hint: "plan and apply read it where they run"}
	}
	defer file.Close()
	value, err := io.ReadAll(io.LimitReader(file, maxSecret+1))
	if err == nil && len(value) > maxSecret {
		err = fmt.Errorf("%s is larger than %d bytes", ref.File, maxSecret)
	}
	return []byte(strings.TrimSuffix(string(value), "\n")), err
}
