package model

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"

	"github.com/amlaks/amlaks/reconcile"
)

// mlRegistry is an Azure ML registry.
type mlRegistry struct{ subscription, group, name string }

// registryVersion is a model version of a registry.
type registryVersion struct {
	in            mlRegistry
	name, version string
	blobURI       string
}

// assetID is how the data plane of registries names a version.
func (v registryVersion) assetID() string {
	return scheme + "registries/" + v.in.name + "/models/" + v.name + "/versions/" + v.version
}

// findInRegistry resolves a version of a registry.
func (c *Client) findInRegistry(ctx context.Context, label string, p place) (artifact, error) {
	in, err := c.registry(ctx, p.registry)
	if err != nil {
		return artifact{}, err
	}
	client, err := armmachinelearning.NewRegistryModelVersionsClient(in.subscription, c.credential, c.arm)
	if err != nil {
		return artifact{}, err
	}
	version := &registryVersion{in: in, name: p.name, version: p.version}
	answer, err := client.Get(ctx, in.group, in.name, p.name, p.version, nil)
	if isStatus(err, http.StatusNotFound) {
		return artifact{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("model %s:%s is not in registry %s", p.name, p.version, in.name),
			Hint:   fmt.Sprintf("az ml model list --registry-name %s --name %s shows what is", in.name, p.name),
		}
	}
	if err != nil {
		return artifact{}, version.forbidden(explain("read "+version.assetID(), err))
	}
	if answer.Properties == nil || answer.Properties.ModelURI == nil {
		return artifact{}, fmt.Errorf("%s has no URI", version.assetID())
	}
	version.blobURI = *answer.Properties.ModelURI
	at, ok := parseContainerURL(version.blobURI)
	if !ok {
		return artifact{}, fmt.Errorf("%s: its URI %s is not that of a blob", version.assetID(), withoutQuery(version.blobURI))
	}
	return artifact{label: label, uri: version.assetID(), container: at.container, path: at.path, registry: version}, nil
}

// registry finds a registry by its name or resource ID. Registries are resources beside the
// workspace, and a name says neither their group nor their subscription: it is looked for in
// the workspace's.
func (c *Client) registry(ctx context.Context, ref string) (mlRegistry, error) {
	if in, ok := registryOfID(ref); ok {
		return in, nil
	}
	return c.registries.get(strings.ToLower(ref), func() (mlRegistry, error) {
		pager := c.factory.NewRegistriesClient().NewListBySubscriptionPager(nil)
		for pager.More() {
			page, err := pager.NextPage(ctx)
			if err != nil {
				return mlRegistry{}, explain("look for registry "+ref, err)
			}
			for _, r := range page.Value {
				if in, ok := registryOfID(value(r.ID)); ok && strings.EqualFold(in.name, ref) {
					return in, nil
				}
			}
		}
		return mlRegistry{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("subscription %s has no Azure ML registry %s that this identity can see", c.options.SubscriptionID, ref),
			Hint: "it needs AzureML Registry User on it; of a registry in another subscription write the resource ID (registry: /subscriptions/...); " +
				"from one of Microsoft's (azureml, HuggingFace) copy the model into the workspace: az ml model create",
		}
	})
}

// registryOfID reads /subscriptions/S/resourceGroups/G/providers/P/registries/R.
func registryOfID(id string) (mlRegistry, bool) {
	parts := strings.Split(id, "/")
	if len(parts) != 9 || !strings.EqualFold(parts[1], "subscriptions") || !strings.EqualFold(parts[3], "resourceGroups") || !strings.EqualFold(parts[7], "registries") {
		return mlRegistry{}, false
	}
	return mlRegistry{subscription: parts[2], group: parts[4], name: parts[8]}, true
}

func (v registryVersion) forbidden(err error) error {
	if reconcile.ReasonOf(err) != reconcile.ReasonForbidden {
		return err
	}
	return &reconcile.Failure{Reason: reconcile.ReasonForbidden, Err: err, Hint: "the identity needs AzureML Registry User on registry " + v.in.name}
}

// signed gives the container's URL with a signature to read it by. The signature is a secret.
// Asking for one is a POST, which clients that only read cannot send.
func (c *Client) signed(ctx context.Context, found artifact) (string, error) {
	v := found.registry
	asset := v.assetID()
	client, err := armmachinelearning.NewRegistryDataReferencesClient(v.in.subscription, c.credential, c.arm)
	if err != nil {
		return "", err
	}
	answer, err := client.GetBlobReferenceSAS(ctx, v.in.group, v.in.name, v.name, v.version,
		armmachinelearning.GetBlobReferenceSASRequestDto{AssetID: &asset, BlobURI: &v.blobURI}, nil)
	if err != nil {
		return "", v.forbidden(explain("ask registry "+v.in.name+" for access to "+found.label, err))
	}
	if answer.BlobReferenceForConsumption == nil {
		return "", fmt.Errorf("registry %s gives no access to %s", v.in.name, found.label)
	}
	switch credential := answer.BlobReferenceForConsumption.Credential.(type) {
	case *armmachinelearning.SASCredential:
		if credential.SasURI != nil {
			return withSignature(found.container, *credential.SasURI)
		}
	case *armmachinelearning.AnonymousAccessCredential:
		return found.container, nil
	}
	return "", fmt.Errorf("registry %s gives access to %s in a way that is not known here", v.in.name, found.label)
}

// withSignature adds the query of a signed URL, or a bare signature, to a container's URL. Its
// errors show no signature.
func withSignature(container, signed string) (string, error) {
	query := strings.TrimPrefix(signed, "?")
	if before, after, ok := strings.Cut(signed, "?"); ok && before != "" {
		u, err := url.Parse(before)
		at, atErr := url.Parse(container)
		if err != nil || atErr != nil || !strings.EqualFold(u.Host, at.Host) {
			return "", fmt.Errorf("the signature that was given for %s is for another account", container)
		}
		query = after
	}
	if _, err := url.ParseQuery(query); err != nil {
		return "", fmt.Errorf("the signature that was given for %s cannot be read", container)
	}
	return container + "?" + query, nil
}

// patchVersion is a version in which a workspace can be patched by hand.
const patchVersion = "2025-04-01"

// legacy is the failure of everything in a workspace whose v1LegacyMode is on; nil when it is
// off, or cannot be known. It turns the API off that models are read by (Microsoft's "Network
// isolation with v2"); with which answer is not documented, so the workspace itself is asked.
func (c *Client) legacy(ctx context.Context, in scope) error {
	client, err := armmachinelearning.NewWorkspacesClient(in.subscription, c.credential, c.arm)
	if err != nil {
		return nil
	}
	answer, err := client.Get(ctx, in.group, in.workspace, nil)
	if err != nil || answer.Properties == nil || answer.Properties.V1LegacyMode == nil || !*answer.Properties.V1LegacyMode {
		return nil
	}
	// The ml extension of az has no parameter for it.
	return &reconcile.Failure{
		Reason: reconcile.ReasonForbidden,
		Err:    fmt.Errorf("workspace %s is in v1 legacy mode, which turns off the API that registered models are read by", in.workspace),
		Hint: `set it to false: az rest --method patch --url "` + in.id() + `?api-version=` + patchVersion + `" --body '{"properties":{"v1LegacyMode":false}}'` +
			` (it takes an hour or more to show); or give the models by path, which asks the workspace nothing`,
	}
}

// refused explains an error of Resource Manager, and looks whether the workspace's legacy mode
// is behind a refusal.
func (c *Client) refused(ctx context.Context, in scope, doing string, err error) error {
	var response *azcore.ResponseError
	if asResponse(err, &response) && response.StatusCode >= http.StatusBadRequest && response.StatusCode < http.StatusInternalServerError &&
		response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusUnauthorized {
		if legacy := c.legacy(ctx, in); legacy != nil {
			return legacy
		}
	}
	return explain(doing, err)
}
