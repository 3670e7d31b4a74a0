package kube

import (
	"fmt"
	"maps"
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
	var places []placed
	for _, variable := range slices.Sorted(maps.Keys(v.Inference.Secrets)) {
		ref := v.Inference.Secrets[variable]
		if ref.KeyVault != "" {
			address := r.refer(vaultAddress(ref.KeyVault), &reference{field: "inference.secrets." + variable, uri: ref.KeyVault})
			places = append(places, placed{[]string{"data", variable}, reconcile.Ref{Address: address, Output: outputValue}})
			continue
		}
		value, err := r.driver.readSecret(ref)
		if err != nil {
			r.err = fmt.Errorf("inference.secrets.%s: %w", variable, err)
			return
		}
		data[variable] = value
	}
	name := secretsName(backend)
	r.add(object{kind: kindSecret, namespace: r.namespace, name: name, values: true},
		core.Secret(name, r.namespace).WithLabels(labels).WithType(corev1.SecretTypeOpaque).WithData(data),
		count(len(v.Inference.Secrets), "environment variable")+" from references")
	r.place(places...)
	if r.err != nil {
		return
	}
	secret := &r.resources[len(r.resources)-1]
	secret.Compare = map[string]reconcile.Comparator{}
	for variable := range v.Inference.Secrets {
		secret.Compare["data."+variable] = reconcile.Sensitive
	}
}

// secretEnvironment gives the variables that come from that Secret.
func secretEnvironment(backend string, v spec.Version) []*core.EnvVarApplyConfiguration {
	var out []*core.EnvVarApplyConfiguration
	for _, variable := range slices.Sorted(maps.Keys(v.Inference.Secrets)) {
		out = append(out, core.EnvVar().WithName(variable).WithValueFrom(core.EnvVarSource().WithSecretKeyRef(
			core.SecretKeySelector().WithName(secretsName(backend)).WithKey(variable))))
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
	value, err := d.readFile(ref.File)
	return []byte(strings.TrimSuffix(string(value), "\n")), err
}
