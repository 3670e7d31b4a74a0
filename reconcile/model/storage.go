package model

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/machinelearning/armmachinelearning/v4"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// withToken opens an artifact's container with the identity's token, or, in a registry, with
// the signature that the registry gives for it.
func (c *Client) withToken(ctx context.Context, found artifact) (*container.Client, error) {
	options, err := c.containerOptions(found)
	if err != nil {
		return nil, err
	}
	if found.registry == nil {
		return container.NewClient(found.container, c.credential, options)
	}
	signed, err := c.signed(ctx, found)
	if err != nil {
		return nil, err
	}
	return container.NewClientWithNoCredential(signed, options)
}

// withKey opens it with the key that its datastore holds, after the token was refused, if the
// file allows that. Asking for the key is a POST, which clients that only read cannot send.
func (c *Client) withKey(ctx context.Context, found artifact, refusal error) (*container.Client, error) {
	if !c.options.AllowAccountKeys || found.datastore == "" {
		return nil, c.storageFailure("list the files of model "+found.label, found, refusal)
	}
	options, err := c.containerOptions(found)
	if err != nil {
		return nil, err
	}
	datastores, err := armmachinelearning.NewDatastoresClient(found.scope.subscription, c.credential, c.arm)
	if err != nil {
		return nil, err
	}
	answer, err := datastores.ListSecrets(ctx, found.scope.group, found.scope.workspace, found.datastore, nil)
	if err != nil {
		if err = explain("read the key of datastore "+found.datastore, err); reconcile.ReasonOf(err) == reconcile.ReasonForbidden {
			err = &reconcile.Failure{Reason: reconcile.ReasonForbidden, Err: err,
				Hint: fmt.Sprintf("its token was refused too: the identity needs Storage Blob Data Reader on storage account %s, "+
					"or AzureML Data Scientist on the workspace, which may list the secrets of datastores", account(found.container))}
		}
		return nil, err
	}
	retry.Say(ctx, fmt.Sprintf("storage account %s refuses the identity's token; reading with the key of datastore %s", account(found.container), found.datastore))
	switch secrets := answer.DatastoreSecretsClassification.(type) {
	case *armmachinelearning.AccountKeyDatastoreSecrets:
		if secrets.Key == nil {
			break
		}
		credential, err := container.NewSharedKeyCredential(account(found.container), *secrets.Key)
		if err != nil {
			return nil, fmt.Errorf("the key of datastore %s is none", found.datastore) // its text would show the key
		}
		return container.NewClientWithSharedKeyCredential(found.container, credential, options)
	case *armmachinelearning.SasDatastoreSecrets:
		if secrets.SasToken == nil {
			break
		}
		signed, err := withSignature(found.container, *secrets.SasToken)
		if err != nil {
			return nil, err
		}
		return container.NewClientWithNoCredential(signed, options)
	}
	return nil, &reconcile.Failure{
		Reason: reconcile.ReasonForbidden,
		Err:    fmt.Errorf("datastore %s holds neither an account key nor a signature", found.datastore),
		Hint:   roleHint(found),
	}
}

func (c *Client) containerOptions(found artifact) (*container.ClientOptions, error) {
	u, err := url.Parse(found.container)
	if err != nil {
		return nil, err
	}
	if !takesToken(u) {
		return nil, &reconcile.Failure{
			Reason: reconcile.ReasonForbidden,
			Err:    fmt.Errorf("model %s lies at %s, which is not Azure's blob storage", found.label, u.Host),
			Hint:   "storage tokens are only sent to hosts of " + strings.Join(blobSuffixes(), ", "),
		}
	}
	options := &container.ClientOptions{ClientOptions: c.arm.ClientOptions}
	options.PerCallPolicies = nil // those of Resource Manager
	options.InsecureAllowCredentialWithHTTP = options.InsecureAllowCredentialWithHTTP && reconcile.IsLoopback(u.Hostname())
	return options, nil
}

// account is the name of a container's storage account.
func account(container string) string {
	u, err := url.Parse(container)
	if err != nil {
		return ""
	}
	if net.ParseIP(u.Hostname()) != nil {
		name, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		return name
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

// blobSuffixes are the blob storages of the public, the Chinese and the US Government cloud.
func blobSuffixes() []string {
	return []string{".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"}
}

// takesToken tells whether a storage token may go there. The workspace names the host, so
// whoever can write to the workspace could otherwise collect tokens.
func takesToken(u *url.URL) bool {
	if reconcile.IsLoopback(u.Hostname()) {
		return true
	}
	known := func(suffix string) bool { return strings.HasSuffix(strings.ToLower(u.Hostname()), suffix) }
	return u.Scheme == "https" && slices.ContainsFunc(blobSuffixes(), known)
}

// tokenRefused tells of a token without the role, or of another tenant: with a key it may go.
// (AuthorizationFailure is the account's firewall, which refuses a key just so.)
func tokenRefused(err error) bool {
	return bloberror.HasCode(err, bloberror.AuthorizationPermissionMismatch, bloberror.InsufficientAccountPermissions) ||
		bloberror.HasCode(err, bloberror.InvalidAuthenticationInfo) && isStatus(err, http.StatusUnauthorized)
}

func roleHint(found artifact) string {
	hint := "the identity needs Storage Blob Data Reader on storage account " + account(found.container) + " (a new role takes some minutes to count)"
	if found.datastore != "" {
		hint += "; or workspace.allowAccountKeys: true, to read with the key that datastore " + found.datastore + " holds"
	}
	return hint
}

// keyNotPermitted is what an account answers whose keys are switched off (allowSharedKeyAccess).
const keyNotPermitted bloberror.Code = "KeyBasedAuthenticationNotPermitted"

// storageFailure explains an error of the blob store.
func (c *Client) storageFailure(doing string, found artifact, err error) error {
	var response *azcore.ResponseError
	if errors.Is(err, errMoved) || isDisk(err) {
		return err
	}
	if !asResponse(err, &response) {
		return explain(doing, err)
	}
	failure := &reconcile.Failure{Reason: reconcile.ReasonForbidden, Err: fmt.Errorf("%s: HTTP %d %s%s", doing, response.StatusCode, response.ErrorCode, requestID(response))}
	switch name := account(found.container); {
	case tokenRefused(err):
		failure.Hint = roleHint(found)
		if found.registry != nil {
			failure.Hint = "the identity needs AzureML Registry User on registry " + found.registry.in.name
		}
	case bloberror.HasCode(err, bloberror.AuthorizationFailure):
		failure.Hint = "the firewall of storage account " + name + " refuses this machine: run amlaks inside its network, or let this address in"
	case bloberror.HasCode(err, keyNotPermitted):
		failure.Hint = "storage account " + name + " lets nobody in by key: the identity needs Storage Blob Data Reader on it"
	case bloberror.HasCode(err, bloberror.AuthenticationFailed):
		failure.Hint = "the key or signature is no longer valid: az ml workspace sync-keys lets the workspace read the account's keys again"
		if found.registry != nil {
			failure.Hint = "a registry's signature is valid for a while only: run it again, what has been fetched is kept"
		}
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		failure.Reason = reconcile.ReasonNotFound
		failure.Hint = "storage account " + name + " has no such container: the datastore is out of date"
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Hint = roleHint(found)
	default:
		return explain(doing, err)
	}
	return failure
}

// isDisk tells errors of this machine's files from those of the network.
func isDisk(err error) bool {
	var file *fs.PathError
	return errors.As(err, &file)
}
