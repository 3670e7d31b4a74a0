package model

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/sandbox"
)

// The account that Azurite has from the start; its key is public (Azurite's README).
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// azurite is a running Azurite, Microsoft's own emulator of the Blob service, whose tokens need
// HTTPS.
type azurite struct {
	host   string // host:port
	pool   *x509.CertPool
	bucket *container.Client // the container "models", by the account's key
}

// installAzurite installs what testdata/azurite pins by hash, once for each pin.
func installAzurite(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: no %s on PATH, so Azurite cannot run; the sandbox's own blob store is tested all the same", program)
		}
	}
	lock, err := os.ReadFile("testdata/azurite/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "amlaks", "test-azurite", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	building, err := os.MkdirTemp(filepath.Dir(dir), "new-*")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(building)
	if err := os.CopyFS(building, os.DirFS("testdata/azurite")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund")
	npm.Dir = building
	if said, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("install Azurite: %v\n%s", err, said)
	}
	if err := os.Rename(building, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		t.Fatal(err)
	}
	return dir
}

var listening = regexp.MustCompile(`successfully listen(?:s|ing) (?:at|on) https://(127\.0\.0\.1:\d+)`)

func startAzurite(t *testing.T) *azurite {
	t.Helper()
	dir, state := installAzurite(t), t.TempDir()
	certificate, key, pool := selfSigned(t, state)
	ctx, cancel := context.WithCancel(t.Context())
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, "node_modules", "azurite", "dist", "src", "blob", "main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", "0", "--location", state, "--oauth", "basic", "--cert", certificate, "--key", key,
		"--skipApiVersionCheck", "--disableTelemetry") // azblob is ahead of its versions
	node.Dir = state
	output, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	node.Stderr = &said
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = node.Wait() // it says that it was ended
	})
	late := time.AfterFunc(time.Minute, cancel)
	a := &azurite{pool: pool}
	lines := bufio.NewScanner(output)
	for a.host == "" && lines.Scan() {
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			a.host = match[1]
		}
	}
	late.Stop()
	if a.host == "" {
		t.Fatalf("Azurite does not start: %v\n%s", lines.Err(), said.String())
	}
	go func() {
		for lines.Scan() { // or it stands still when the pipe is full
		}
	}()
	credential, err := container.NewSharedKeyCredential(azuriteAccount, azuriteKey)
	if err != nil {
		t.Fatal(err)
	}
	options := &container.ClientOptions{}
	options.Transport = a.transport(nil)
	a.bucket, err = container.NewClientWithSharedKeyCredential("https://"+a.host+"/"+azuriteAccount+"/models", credential, options)
	if err == nil {
		_, err = a.bucket.Create(t.Context(), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// selfSigned writes a certificate of its own authority for loopback.
func selfSigned(t *testing.T, dir string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "azurite"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	made, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pemCertificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made})
	if err := errors.Join(os.WriteFile(certificate, pemCertificate, 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), 0o600)); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(pemCertificate)
	return certificate, key, pool
}

// seenBy is called with each answer of Azurite.
type seenBy func(*http.Response)

type watched struct {
	next http.RoundTripper
	seen seenBy
	host string
}

func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.next.RoundTrip(r)
	if err == nil && r.URL.Host == w.host && w.seen != nil {
		w.seen(response)
	}
	return response, err
}

func (a *azurite) transport(seen seenBy) policy.Transporter {
	return &http.Client{Transport: watched{&http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.pool}}, seen, a.host}}
}

func (a *azurite) put(t *testing.T, name string, content []byte) {
	t.Helper()
	if _, err := a.bucket.NewBlockBlobClient(name).Upload(t.Context(), streaming{bytes.NewReader(content)}, nil); err != nil {
		t.Fatal(err)
	}
}

// entra gives ARM the sandbox's token, and storage one as Entra issues them; Azurite looks at
// what is in it, and not at who has signed it.
type entra struct {
	arm      string
	audience string
}

func (e entra) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	expires := time.Now().Add(time.Hour)
	if !strings.Contains(strings.Join(options.Scopes, " "), "storage.azure.com") {
		return azcore.AccessToken{Token: e.arm, ExpiresOn: expires}, nil
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000001/", "aud": e.audience, "sub": "t",
		"iat": time.Now().Add(-time.Minute).Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "exp": expires.Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	return azcore.AccessToken{Token: encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims) + "." + encode([]byte("unsigned")), ExpiresOn: expires}, err
}

// TestAzurite fetches from Microsoft's own emulator what the other tests fetch from ours, for
// the things in which ours may be wrong.
func TestAzurite(t *testing.T) {
	t.Parallel()
	a := startAzurite(t)
	w := start(t, nil)
	const id = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/ml-prod/datastores/" + datastore
	if err := w.Overlay(id, map[string]any{"properties": map[string]any{
		"accountName": azuriteAccount, "containerName": "models", "endpoint": a.host, "protocol": "https",
	}}); err != nil {
		t.Fatal(err)
	}
	if err := w.RegisterModelURI("churn", "3", "azureml://datastores/"+datastore+"/paths/a model/model"); err != nil {
		t.Fatal(err)
	}
	content := large()
	a.put(t, "a model/model/weights.bin", content)
	a.put(t, "a model/model", nil) // as a hierarchical namespace shows the folder
	if _, err := a.bucket.NewBlobClient("a model/model").SetMetadata(t.Context(), map[string]*string{"hdi_isfolder": ptr("true")}, nil); err != nil {
		t.Fatal(err)
	}
	a.put(t, "a model/model2", []byte("a neighbour"))

	client := func(t *testing.T, audience string, seen seenBy, change ...func(*Options, *arm.ClientOptions)) *Client {
		t.Helper()
		w := *w
		w.cache, w.t = t.TempDir(), t
		c := w.client(append(change, func(_ *Options, options *arm.ClientOptions) { options.Transport = a.transport(seen) })...)
		c.credential = entra{arm: w.Token(), audience: audience}
		return c
	}
	const audience = "https://storage.azure.com"

	t.Run("token", func(t *testing.T) {
		var got, hashed atomic.Int32
		c := client(t, audience, func(r *http.Response) {
			if r.StatusCode == http.StatusPartialContent {
				got.Add(1)
				if r.Header.Get("Content-Md5") != "" {
					hashed.Add(1)
				}
			}
		})
		want(t, files(t, c, churn), content)
		if got.Load() != ranges || hashed.Load() != ranges {
			t.Errorf("%d ranges, %d with a hash; want %d", got.Load(), hashed.Load(), ranges)
		}
	})
	t.Run("no token, no key", func(t *testing.T) {
		_, err := client(t, "https://management.azure.com", nil).Files(patient(t), churn, quiet)
		if reconcile.ReasonOf(err) != reconcile.ReasonForbidden || reconcile.HintOf(err) == "" {
			t.Errorf("got %v (hint %q)", err, reconcile.HintOf(err))
		}
	})
	for name, secrets := range map[string]map[string]any{
		"account key": {"secretsType": "AccountKey", "key": azuriteKey},
		"signature":   {"secretsType": "Sas", "sasToken": a.signature(t)},
	} {
		t.Run(name, func(t *testing.T) {
			w.Secrets(datastore, secrets)
			// Azurite knows no roles; a token that is refused for its role is refused by the watch.
			refuse := func(r *http.Response) {
				if strings.HasPrefix(r.Request.Header.Get("Authorization"), "Bearer ") {
					r.StatusCode = http.StatusForbidden
					r.Header.Set("x-ms-error-code", "AuthorizationPermissionMismatch")
				}
			}
			want(t, files(t, client(t, audience, refuse, withKeys), churn), content)
		})
	}
	t.Run("interrupted and resumed", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var got atomic.Int32
		c := client(t, audience, func(r *http.Response) {
			if r.StatusCode == http.StatusPartialContent && got.Add(1) == 5 {
				cancel()
			}
		})
		if _, err := c.Files(ctx, churn, quiet); !errors.Is(err, context.Canceled) {
			t.Fatalf("interrupted: %v", err)
		}
		journal, err := filepath.Glob(filepath.Join(c.cache.dir, "partial", "*.done"))
		if err != nil || len(journal) != 1 {
			t.Fatal(journal, err)
		}
		lines, err := os.ReadFile(journal[0])
		if err != nil {
			t.Fatal(err)
		}
		have := len(strings.Fields(string(lines))) / 2
		got.Store(1000)
		want(t, files(t, c, churn), content)
		if n := int(got.Load()) - 1000; n != ranges-have {
			t.Errorf("%d ranges fetched, and %d of %d were here", n, have, ranges)
		}
	})
	t.Run("written over meanwhile", func(t *testing.T) {
		next := weights(9, len(content))
		var got, refused atomic.Int32
		var one sync.Mutex // those that were asked for beside the first end after it
		c := client(t, audience, func(r *http.Response) {
			one.Lock()
			defer one.Unlock()
			if r.StatusCode == http.StatusPreconditionFailed {
				refused.Add(1)
			}
			if r.StatusCode == http.StatusPartialContent && got.Add(1) == 1 {
				a.put(t, "a model/model/weights.bin", next)
			}
		})
		want(t, files(t, c, churn), next)
		if refused.Load() == 0 {
			t.Error("nothing was refused: the entity tag was not asked for")
		}
	})
	t.Run("Content-MD5", func(t *testing.T) {
		wrong := blob.HTTPHeaders{BlobContentMD5: bytes.Repeat([]byte{7}, 16)}
		if _, err := a.bucket.NewBlobClient("a model/model/weights.bin").SetHTTPHeaders(t.Context(), wrong, nil); err != nil {
			t.Fatal(err)
		}
		_, err := client(t, audience, nil).Files(patient(t), churn, quiet)
		if err == nil || !strings.Contains(err.Error(), "Content-MD5 is 0707") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing there", func(t *testing.T) {
		if _, err := a.bucket.NewBlobClient("a model/model/weights.bin").Delete(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		_, err := client(t, audience, nil).Files(patient(t), churn, quiet)
		if reconcile.ReasonOf(err) != reconcile.ReasonNotFound || !strings.Contains(fmt.Sprint(err), "nothing at") {
			t.Errorf("got %v", err)
		}
	})
}

// signature is a SAS that the account's key has signed.
func (a *azurite) signature(t *testing.T) string {
	t.Helper()
	signed, err := a.bucket.GetSASURL(sas.ContainerPermissions{Read: true, List: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func ptr[T any](v T) *T { return &v }
