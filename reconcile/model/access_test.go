package model

import (
	"fmt"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/azure"
	"github.com/amlaks/amlaks/reconcile/sandbox"
	"github.com/amlaks/amlaks/spec"
)

const datastore = "workspaceblobstore"

func accountKey(w *world) map[string]any {
	return map[string]any{"secretsType": "AccountKey", "key": w.AccountKey()}
}

// The identity's token comes first; a key is asked for only where the file allows it, and only
// after the token was refused.
func TestTokenThenKey(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	content := []byte("weights")
	for _, version := range []string{"1", "2", "3", "4"} {
		w.register("churn", version, content)
	}
	w.Secrets(datastore, accountKey(w))
	asked := func() int { return w.count("POST", "/listSecrets") }
	version := func(v string) spec.Model { return spec.Model{Name: "churn", Version: v} }

	want(t, files(t, w.client(withKeys), version("1")), content)
	if asked() != 0 {
		t.Error("a key was asked for, and the token would have done")
	}
	w.RefuseStorageTokens(true)
	_, err := w.client().Files(patient(t), version("2"), quiet)
	if reconcile.ReasonOf(err) != reconcile.ReasonForbidden || !strings.Contains(reconcile.HintOf(err), "Storage Blob Data Reader on storage account mlprodstorage") ||
		!strings.Contains(reconcile.HintOf(err), "workspace.allowAccountKeys") || asked() != 0 {
		t.Errorf("no role, no keys allowed: %v (hint %q), a key asked for %d times", err, reconcile.HintOf(err), asked())
	}
	want(t, files(t, w.client(withKeys), version("2")), content)
	if asked() != 1 {
		t.Errorf("a key asked for %d times, want 1", asked())
	}
	w.Secrets(datastore, map[string]any{"secretsType": "Sas", "sasToken": "?" + signature(t, w)})
	want(t, files(t, w.client(withKeys), version("3")), content)

	for name, test := range map[string]struct {
		secrets   map[string]any
		locked    bool
		say, hint string
	}{
		"may not list secrets": {nil, false, "read the key of datastore workspaceblobstore: HTTP 403 AuthorizationFailed", "or AzureML Data Scientist on the workspace"},
		"no key":               {map[string]any{"secretsType": "ServicePrincipal", "clientSecret": "hush"}, false, "neither an account key nor a signature", "Storage Blob Data Reader"},
		"a key that is none":   {map[string]any{"secretsType": "AccountKey", "key": "hush hush"}, false, "is none", ""},
		"an old key":           {map[string]any{"secretsType": "AccountKey", "key": "aHVzaA=="}, false, "403 AuthenticationFailed", "sync-keys"},
		"an old signature":     {map[string]any{"secretsType": "Sas", "sasToken": "sv=2021-08-06&sig=hush"}, false, "403 AuthenticationFailed", "sync-keys"},
		"another account's signature": {map[string]any{"secretsType": "Sas", "sasToken": "https://other.blob.core.windows.net/c?sig=hush"}, false,
			"is for another account", ""},
		"keys switched off": {accountKey(w), true, "403 KeyBasedAuthenticationNotPermitted", "the identity needs Storage Blob Data Reader"},
	} {
		t.Run(name, func(t *testing.T) {
			w.LockAccountKeys(test.locked)
			w.Secrets(datastore, test.secrets)
			_, err := w.client(withKeys).Files(patient(t), version("4"), quiet)
			if !strings.Contains(fmt.Sprint(err), test.say) || !strings.Contains(reconcile.HintOf(err), test.hint) {
				t.Errorf("got %v (hint %q)", err, reconcile.HintOf(err))
			}
			unsaid(t, w, err)
		})
	}
}

// signature gives that of the container, as a registry hands it out.
func signature(t *testing.T, w *world) string {
	t.Helper()
	if err := w.RegisterRegistryModel("signs", "any", "1", tree(t, "any", map[string][]byte{"a": nil})); err != nil {
		t.Fatal(err)
	}
	found, err := w.find(t.Context(), spec.Model{Name: "any", Version: "1", Registry: "signs"})
	if err != nil {
		t.Fatal(err)
	}
	signed, err := w.signed(t.Context(), found)
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(signed, "?")
	return query
}

// unsaid fails when an error shows a secret.
func unsaid(t *testing.T, w *world, err error) {
	t.Helper()
	for _, secret := range []string{"hush", "aHVzaA", "sig=", w.AccountKey(), w.Token()} {
		if strings.Contains(fmt.Sprint(err)+reconcile.HintOf(err), secret) {
			t.Errorf("a secret is shown: %v (hint %q)", err, reconcile.HintOf(err))
		}
	}
}

// A registry's signature is in no error, whatever happens to the request that bears it.
func TestSignatureIsNotShown(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	if err := w.RegisterRegistryModel("shared", "base", "1", tree(t, "m", map[string][]byte{"weights.bin": []byte("w")})); err != nil {
		t.Fatal(err)
	}
	m := spec.Model{Name: "base", Version: "1", Registry: "shared"}
	for name, fault := range map[string]sandbox.Fault{
		"reset":     {Reset: "before", Count: 1000},
		"forbidden": {Status: 403, Code: "AuthorizationPermissionMismatch", Count: 1000},
		"firewall":  {Status: 403, Code: "AuthorizationFailure", Count: 1000},
		"gone":      {Status: 404, Code: "ContainerNotFound", Count: 1000},
		"failing":   {Status: 500, Count: 1000},
	} {
		t.Run(name, func(t *testing.T) {
			fault.Service = "blob"
			if _, err := w.Fault(fault); err != nil {
				t.Fatal(err)
			}
			defer w.ClearFaults()
			_, err := w.client().Files(patient(t), m, quiet)
			if err == nil || reconcile.ReasonOf(err) == "" {
				t.Errorf("got %v", err)
			}
			unsaid(t, w, err)
		})
	}
	if n := w.count("POST", "/registries/shared/datareferences/base/versions/1"); n == 0 {
		t.Error("the registry was not asked for a signature")
	}
	if got := files(t, w.client(), m); string(got["m/weights.bin"]) != "w" {
		t.Errorf("after the faults: %v", got)
	}
}

// A workspace in v1's legacy mode says no to everything; the workspace itself says why.
func TestLegacyMode(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.register("churn", "3", []byte("w"))
	const id = "/subscriptions/" + sandbox.SubscriptionID + "/resourceGroups/ml-prod/providers/Microsoft.MachineLearningServices/workspaces/ml-prod"
	mode := func(on bool) {
		if err := w.Overlay(id, map[string]any{"properties": map[string]any{"v1LegacyMode": on}}); err != nil {
			t.Fatal(err)
		}
	}
	mode(true)
	for _, m := range []spec.Model{churn, {Name: "none", Version: "1"}} {
		_, err := w.Identity(t.Context(), m)
		hint := reconcile.HintOf(err)
		if reconcile.ReasonOf(err) != reconcile.ReasonForbidden || !strings.Contains(fmt.Sprint(err), "workspace ml-prod is in v1 legacy mode") ||
			!strings.Contains(hint, `"v1LegacyMode":false`) || !strings.Contains(hint, id) || !strings.Contains(hint, "by path") {
			t.Errorf("got %v (hint %q)", err, hint)
		}
	}
	if _, err := w.List(t.Context()); !strings.Contains(fmt.Sprint(err), "v1 legacy mode") {
		t.Errorf("list: %v", err)
	}
	mode(false)
	if _, err := w.Identity(t.Context(), churn); err != nil {
		t.Errorf("with the mode off: %v", err)
	}
	if _, err := w.Fault(sandbox.Fault{Method: "GET", Path: "/models/", Status: 403}); err != nil {
		t.Fatal(err)
	}
	_, err := w.client().Identity(t.Context(), churn)
	if err == nil || strings.Contains(err.Error(), "legacy") || !strings.Contains(reconcile.HintOf(err), "AzureML Data Scientist") {
		t.Errorf("another refusal: %v (hint %q)", err, reconcile.HintOf(err))
	}
}

// What reads only never asks for a secret: neither a key nor a signature.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.register("churn", "3", []byte("w"))
	w.Secrets(datastore, accountKey(w))
	w.RefuseStorageTokens(true)
	if err := w.RegisterRegistryModel("shared", "base", "1", tree(t, "m", map[string][]byte{"w": []byte("w")})); err != nil {
		t.Fatal(err)
	}
	connection, err := azure.Connect(func(name string) string {
		return map[string]string{azure.EndpointVariable: w.ARMEndpoint(), azure.TokenVariable: w.Token()}[name]
	}, "test", true, azure.Identity{})
	if err != nil {
		t.Fatal(err)
	}
	c := w.client(withKeys, func(_ *Options, options *arm.ClientOptions) { *options = *connection.Options })
	for _, m := range []spec.Model{churn, {Name: "base", Version: "1", Registry: "shared"}} {
		if _, err := c.Identity(t.Context(), m); err != nil {
			t.Errorf("identity of %v: %v", m, err)
		}
		if _, err := c.Files(patient(t), m, quiet); err == nil || !strings.Contains(err.Error(), "this command only reads") {
			t.Errorf("files of %v: %v", m, err)
		}
	}
	for _, r := range w.Requests("all") {
		if r.Method != "GET" {
			t.Errorf("%s %s was sent", r.Method, r.Path)
		}
	}
}
