package kube

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	corev1 "k8s.io/api/core/v1"
	core "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/kube/routes"
)

// keyBytes of randomness make a key; v1's had 32 characters of base64.
const keyBytes = 32

// tokenLifetime of a scoring token. v1 documented none; AKS issues at most 24 h.
const tokenLifetime = 12 * 60 * 60 // seconds

func newKey() string {
	key := make([]byte, keyBytes)
	// crypto/rand.Read never fails since Go 1.24; it ends the process instead.
	_, _ = rand.Read(key)
	return base64.RawURLEncoding.EncodeToString(key)
}

// hasKeys tells whether a Secret of keys has both, whichever way it was read.
func hasKeys(object runtime.Object) bool {
	object, err := typed(kindSecret, object)
	if err != nil {
		return false
	}
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return false
	}
	_, err = keysOf(secret)
	return err == nil
}

// generateKeys gives the Secret its keys, once: the resourceVersion refuses a second writer,
// so that nobody is ever handed a key that is not the one in force.
func (c *client) generateKeys(ctx context.Context, secret *unstructured.Unstructured) error {
	data, _, _ := unstructured.NestedMap(secret.Object, "data")
	fresh := map[string][]byte{}
	for _, name := range []string{routes.PrimaryKey, routes.SecondaryKey} {
		if old, _ := data[name].(string); old != "" {
			decoded, err := base64.StdEncoding.DecodeString(old)
			if err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
			fresh[name] = decoded
			continue
		}
		fresh[name] = []byte(newKey())
	}
	configuration := core.Secret(secret.GetName(), secret.GetNamespace()).WithResourceVersion(secret.GetResourceVersion()).WithData(fresh)
	_, err := c.typed.CoreV1().Secrets(secret.GetNamespace()).Apply(ctx, configuration, metav1.ApplyOptions{FieldManager: keysManager, Force: true})
	return explain("generate keys", err)
}

// Keys are a service's two keys.
type Keys struct {
	Primary   string `json:"primaryKey"`
	Secondary string `json:"secondaryKey"`
}

// Token is an access token for a service, as v1's get_access_token gave it.
type Token struct {
	AccessToken  string `json:"accessToken"`
	TokenType    string `json:"tokenType"`
	RefreshAfter string `json:"refreshAfter"` // RFC 3339: half of its life is over
	ExpiryOn     string `json:"expiryOn"`     // RFC 3339
}

// Cluster is what the day-2 verbs do in one cluster, for one stack.
type Cluster struct {
	client    *client
	namespace string
}

// Open reaches a cluster by its kubeconfig.
func Open(kubeconfig, stack string, readOnly bool) (*Cluster, error) {
	c, err := newClient(kubeconfig, readOnly, nil)
	if err != nil {
		return nil, err
	}
	return &Cluster{client: c, namespace: Namespace(stack)}, nil
}

// Keys reads a service's keys.
func (c *Cluster) Keys(ctx context.Context, service string) (Keys, error) {
	secret, err := c.client.typed.CoreV1().Secrets(c.namespace).Get(ctx, KeysSecret(service), metav1.GetOptions{})
	if err != nil {
		return Keys{}, notApplied("read the keys of "+service, err)
	}
	return keysOf(secret)
}

func keysOf(secret *corev1.Secret) (Keys, error) {
	keys := Keys{Primary: string(secret.Data[routes.PrimaryKey]), Secondary: string(secret.Data[routes.SecondaryKey])}
	if keys.Primary == "" || keys.Secondary == "" {
		return Keys{}, &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: errNoKeys, Hint: "amlaks apply generates them"}
	}
	return keys, nil
}

// RegenerateKey replaces one key, routes.PrimaryKey or routes.SecondaryKey, and gives both.
func (c *Cluster) RegenerateKey(ctx context.Context, service, which string) (Keys, error) {
	secrets := c.client.typed.CoreV1().Secrets(c.namespace)
	secret, err := secrets.Get(ctx, KeysSecret(service), metav1.GetOptions{})
	if err != nil {
		return Keys{}, notApplied("read the keys of "+service, err)
	}
	if _, err := keysOf(secret); err != nil {
		return Keys{}, err
	}
	data := map[string][]byte{routes.PrimaryKey: secret.Data[routes.PrimaryKey], routes.SecondaryKey: secret.Data[routes.SecondaryKey]}
	data[which] = []byte(newKey())
	configuration := core.Secret(secret.Name, secret.Namespace).WithResourceVersion(secret.ResourceVersion).WithData(data)
	secret, err = secrets.Apply(ctx, configuration, metav1.ApplyOptions{FieldManager: keysManager, Force: true})
	if err != nil {
		return Keys{}, explain("regenerate the key", err)
	}
	return keysOf(secret)
}

// Token asks Kubernetes for an access token for a service with authMode token.
func (c *Cluster) Token(ctx context.Context, service string) (Token, error) {
	seconds := int64(tokenLifetime)
	asked := metav1.Now()
	request, err := c.client.typed.CoreV1().ServiceAccounts(c.namespace).CreateToken(ctx, service, &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{Audiences: []string{Audience(c.namespace, service)}, ExpirationSeconds: &seconds},
	}, metav1.CreateOptions{})
	if err != nil {
		return Token{}, notApplied("issue a token for "+service, err)
	}
	expiry := request.Status.ExpirationTimestamp
	half := asked.Add(expiry.Sub(asked.Time) / 2)
	const rfc3339 = "2006-01-02T15:04:05Z"
	return Token{
		AccessToken: request.Status.Token, TokenType: "Bearer",
		RefreshAfter: half.UTC().Format(rfc3339), ExpiryOn: expiry.UTC().Format(rfc3339),
	}, nil
}

// Logs copies the last lines of every replica of a service to w, each line behind its pod's name.
func (c *Cluster) Logs(ctx context.Context, w io.Writer, service string, lines int64, follow bool) error {
	return c.client.logs(ctx, w, c.namespace, LabelService+"="+service, lines, follow)
}

func notApplied(doing string, err error) error {
	if apierrors.IsNotFound(err) {
		return &reconcile.Failure{Reason: reconcile.ReasonNotFound, Err: fmt.Errorf("%s: it is not there", doing), Hint: "amlaks apply makes it"}
	}
	return explain(doing, err)
}
