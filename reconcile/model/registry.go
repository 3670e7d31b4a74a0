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

// registryVersion is a model version of an Azure ML registry.
type registryVersion struct {
	group, registry, name, version string
	blobURI                        string
}

// assetID is how the data plane of registries names a version.
func (v registryVersion) assetID() string {
	return scheme + "registries/" + v.registry + "/models/" + v.name + "/versions/" + v.version
}

// findInRegistry resolves a version of a registry. Registries are resources beside the
// workspace, and a URI says neither their group nor their subscription: they are looked for
// in the workspace's.
func (c *Client) findInRegistry(ctx context.Context, label string, p place) (artifact, error) {
	group, err := c.registries.get(strings.ToLower(p.registry), func() (string, error) { return c.registryGroup(ctx, p.registry) })
	if err != nil {
		return artifact{}, err
	}
	version := &registryVersion{group: group, registry: p.registry, name: p.name, version: p.version}
	answer, err := c.factory.NewRegistryModelVersionsClient().Get(ctx, group, p.registry, p.name, p.version, nil)
	if isStatus(err, http.StatusNotFound) {
		return artifact{}, &reconcile.Failure{
			Reason: reconcile.ReasonNotFound,
			Err:    fmt.Errorf("model %s:%s is not in registry %s", p.name, p.version, p.registry),
			Hint:   fmt.Sprintf("az ml model list --registry-name %s --name %s shows what is", p.registry, p.name),
		}
	}
	if err != nil {
		return artifact{}, explain("read "+version.assetID(), err)
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

// registryGroup finds the resource group of a registry.
func (c *Client) registryGroup(ctx context.Context, name string) (string, error) {
	pager := c.factory.NewRegistriesClient().NewListBySubscriptionPager(nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return "", explain("look for registry "+name, err)
		}
		for _, r := range page.Value {
			if r.Name == nil || r.ID == nil || !strings.EqualFold(*r.Name, name) {
				continue
			}
			parts := strings.Split(*r.ID, "/") // /subscriptions/S/resourceGroups/G/...
			if len(parts) > 4 && strings.EqualFold(parts[3], "resourceGroups") {
				return parts[4], nil
			}
		}
	}
	return "", &reconcile.Failure{
		Reason: reconcile.ReasonNotFound,
		Err:    fmt.Errorf("subscription %s has no Azure ML registry %s that this identity can see", c.options.SubscriptionID, name),
		Hint:   "it needs AzureML Registry User on the registry; from a registry elsewhere (azureml, HuggingFace), copy the model into the workspace: az ml model create",
	}
}

// signed gives the container's URL with a signature to read it by. The signature is a secret.
// Asking for one is a POST, which clients that only read cannot send.
func (c *Client) signed(ctx context.Context, found artifact) (string, error) {
	v := found.registry
	asset := v.assetID()
	answer, err := c.factory.NewRegistryDataReferencesClient().GetBlobReferenceSAS(ctx, v.group, v.registry, v.name, v.version,
		armmachinelearning.GetBlobReferenceSASRequestDto{AssetID: &asset, BlobURI: &v.blobURI}, nil)
	if err != nil {
		failure := explain("ask registry "+v.registry+" for access to "+found.label, err)
		return "", withHint(failure, reconcile.ReasonForbidden, "the identity needs AzureML Registry User on registry "+v.registry)
	}
	if answer.BlobReferenceForConsumption == nil {
		return "", fmt.Errorf("registry %s gives no access to %s", v.registry, found.label)
	}
	switch credential := answer.BlobReferenceForConsumption.Credential.(type) {
	case *armmachinelearning.SASCredential:
		if credential.SasURI != nil {
			return withSignature(found.container, *credential.SasURI)
		}
	case *armmachinelearning.AnonymousAccessCredential:
		return found.container, nil
	}
	return "", fmt.Errorf("registry %s gives access to %s in a way that is not known here", v.registry, found.label)
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

// withHint replaces the hint of a failure that has the reason.
func withHint(err error, reason reconcile.Reason, hint string) error {
	if reconcile.ReasonOf(err) == reason {
		return &reconcile.Failure{Reason: reason, Err: err, Hint: hint}
	}
	return err
}

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
		Hint: `set it to false: az rest --method patch --url "` + in.id() + `?api-version=2025-04-01" --body '{"properties":{"v1LegacyMode":false}}'` +
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
