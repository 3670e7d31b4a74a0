package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/amlaks/amlaks/reconcile"
	"github.com/amlaks/amlaks/reconcile/retry"
)

// The versions of the APIs spoken, each named once.
const (
	aksVersion       = "2025-02-01" // armcontainerservice/v6's: its types are what our bodies are checked against
	workspaceVersion = "2024-04-01" // armmachinelearning/v4's
	registryVersion  = "2023-07-01"
	// Those of what has no module of the SDK in go.mod.
	authorizationVersion = "2022-04-01"
	storageVersion       = "2024-01-01"
	vaultVersion         = "2024-11-01"
	insightsVersion      = "2020-02-02"
	groupVersion         = "2021-04-01"
)

const (
	maxBody       = 64 << 20 // a list of clusters is the largest answer there is
	pollFrequency = 5 * time.Second
)

// body is a resource as JSON, whole, the parts that nobody here knows too.
type body = map[string]any

// client speaks JSON with Resource Manager over azcore's pipeline (auth, retries, polling).
type client struct {
	arm   *arm.Client
	retry policy.RetryOptions
}

func newClient(connection *Connection) (*client, error) {
	// azcore wants a semantic version of a module; ours is in the connection's ApplicationID.
	c, err := arm.NewClient("amlaks", "v0.0.0", connection.Credential, connection.Options)
	if err != nil {
		return nil, err
	}
	return &client{arm: c, retry: connection.Options.Retry}, nil
}

// send makes one request and gives the response if its status is one of those expected.
func (c *client) send(ctx context.Context, method, target string, content any, header http.Header, expected ...int) (*http.Response, error) {
	request, err := runtime.NewRequest(withBudget(ctx, c.retry), method, target)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		request.Raw().Header[name] = values
	}
	if content != nil {
		if err := runtime.MarshalAsJSON(request, content); err != nil {
			return nil, err
		}
	}
	response, err := c.arm.Pipeline().Do(request)
	if err != nil {
		return nil, err
	}
	if !runtime.HasStatusCode(response, expected...) {
		return nil, runtime.NewResponseError(response)
	}
	return response, nil
}

// target is the URL of a resource ID with its api-version.
func (c *client) target(id, version string) string {
	return runtime.JoinPaths(c.arm.Endpoint(), id) + "?api-version=" + url.QueryEscape(version)
}

// get reads one resource; nil without an error if it is not there.
func (c *client) get(ctx context.Context, id, version string) (body, error) {
	response, err := c.send(ctx, http.MethodGet, c.target(id, version), nil, nil, http.StatusOK)
	if isStatus(err, http.StatusNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decode(response)
}

// list reads every page of a collection.
func (c *client) list(ctx context.Context, id, version string) ([]body, error) {
	return c.pages(ctx, c.target(id, version))
}

// pages reads a list from its first page on.
func (c *client) pages(ctx context.Context, first string) ([]body, error) {
	var all []body
	for next := first; next != ""; {
		response, err := c.send(ctx, http.MethodGet, next, nil, nil, http.StatusOK)
		if err != nil {
			return nil, err
		}
		page, err := decode(response)
		if err != nil {
			return nil, err
		}
		values, _ := page["value"].([]any)
		for _, value := range values {
			if item, ok := value.(body); ok {
				all = append(all, item)
			}
		}
		next, _ = page["nextLink"].(string)
	}
	return all, nil
}

// post calls an action that answers at once.
func (c *client) post(ctx context.Context, id, version string) (body, error) {
	response, err := c.send(ctx, http.MethodPost, c.target(id, version), nil, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	return decode(response)
}

// write starts a long-running PUT, PATCH or DELETE and waits for its end.
func (c *client) write(ctx context.Context, method, id, version string, content any, header http.Header) error {
	return c.writeTo(ctx, method, c.target(id, version), content, header)
}

// writeTo is write to a whole URL.
func (c *client) writeTo(ctx context.Context, method, target string, content any, header http.Header) error {
	response, err := c.send(ctx, method, target, content, header,
		http.StatusOK, http.StatusCreated, http.StatusAccepted, http.StatusNoContent)
	if err != nil {
		return err
	}
	poller, err := runtime.NewPoller[json.RawMessage](response, c.arm.Pipeline(), nil)
	if err != nil {
		return err
	}
	_, err = poller.PollUntilDone(withBudget(ctx, c.retry), &runtime.PollUntilDoneOptions{Frequency: pollFrequency})
	return err
}

func decode(response *http.Response) (body, error) {
	defer response.Body.Close()
	var b body
	if err := json.NewDecoder(io.LimitReader(response.Body, maxBody)).Decode(&b); err != nil {
		return nil, fmt.Errorf("read %s: %w", response.Request.URL.Path, err)
	}
	return b, nil
}

func isStatus(err error, statuses ...int) bool {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	for _, status := range statuses {
		if response.StatusCode == status {
			return true
		}
	}
	return false
}

// explain turns what Resource Manager said into a failure that says what to do. It is
// classified by error code before status: a failed operation is a ResponseError with 200.
func explain(doing string, err error) error {
	if err == nil || reconcile.ReasonOf(err) != "" { // what is explained already stays as it is
		return err
	}
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return unanswered(doing, "Azure Resource Manager", "check the network, and the proxy if there is one", err)
	}
	failure := &reconcile.Failure{Err: fmt.Errorf("%s: %s", doing, sentence(response))}
	switch {
	case response.StatusCode < http.StatusBadRequest:
		failure.Reason = reconcile.ReasonOperationFailed
		failure.Hint = "Azure gave up the operation; run apply again once its cause is gone"
	case response.StatusCode == http.StatusUnauthorized, response.StatusCode == http.StatusForbidden:
		failure.Reason = reconcile.ReasonForbidden
		failure.Hint = "the identity needs Azure Kubernetes Service Contributor Role on the resource group, and Azure Kubernetes Service Cluster Admin Role on the cluster"
	case response.StatusCode == http.StatusNotFound:
		failure.Reason = reconcile.ReasonNotFound
	case response.StatusCode == http.StatusConflict, response.StatusCode == http.StatusPreconditionFailed:
		failure.Reason = reconcile.ReasonConflict
		failure.Hint = "somebody else is changing it: run apply again when they are done"
	case response.StatusCode == http.StatusTooManyRequests:
		failure.Reason = reconcile.ReasonThrottled
		failure.Hint = "Azure's request budget is used up: run apply again in some minutes"
	case response.StatusCode >= http.StatusInternalServerError:
		failure.Reason = reconcile.ReasonUnavailable
		failure.Hint = "Azure answered this to every retry: run apply again later"
	}
	return failure
}

// unanswered is the failure of a request that had no answer.
func unanswered(doing, service, hint string, err error) error {
	var final retry.Final
	if errors.As(err, &final) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return &reconcile.Failure{
		Reason: reconcile.ReasonUnavailable, Err: fmt.Errorf("%s: %s cannot be reached: %w", doing, service, err), Hint: hint,
	}
}

// sentence is a ResponseError in one line: azcore's own text shows a page of headers.
func sentence(response *azcore.ResponseError) string {
	text := fmt.Sprintf("HTTP %d %s", response.StatusCode, response.ErrorCode)
	if raw := response.RawResponse; raw != nil {
		payload, err := runtime.Payload(raw)
		var content struct {
			Error struct{ Message string }
			// AKS answers in a flat form too.
			Message string
		}
		if err == nil && json.Unmarshal(payload, &content) == nil {
			if message := content.Error.Message + content.Message; message != "" {
				text += ": " + message
			}
		}
		text += requestID(raw)
	}
	return text
}

// requestID is what to give Azure's support, and to look for in the activity log.
func requestID(response *http.Response) string {
	var ids []string
	if id := response.Header.Get("X-Ms-Request-Id"); id != "" {
		ids = append(ids, "request "+id)
	}
	if response.Request != nil {
		ids = append(ids, "correlation "+response.Request.Header.Get(correlationHeader))
	}
	return " (" + strings.Join(ids, ", ") + ")"
}

// retryable tells whether a write ran into another operation, or into another writer, and
// may be sent again after a fresh look.
func retryable(err error) bool {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	if strings.Contains(err.Error(), "Available upgrades") { // OperationNotAllowed too, and for good
		return false
	}
	return response.StatusCode == http.StatusPreconditionFailed || response.StatusCode == http.StatusConflict &&
		(response.ErrorCode == "OperationNotAllowed" || response.ErrorCode == "EtagMismatch")
}
