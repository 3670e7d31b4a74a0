package azure

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/amlaks/amlaks/reconcile/retry"
)

const (
	// retryDelay is azcore's own. Six retries of it, growing, fill four fifths of the default budget.
	retryDelay = 800 * time.Millisecond
	// delaysPerBudget keeps that proportion for others.
	delaysPerBudget = retry.DefaultBudget / retryDelay
)

// patient makes requests wait as they are asked to, and give up within their budget (see
// package retry). AKS refills its write budget once a minute per cluster, so a Retry-After of a
// minute or more is normal; azcore's own default gives up above 60 s.
func patient(options *arm.ClientOptions) {
	options.Retry = policy.RetryOptions{
		MaxRetries: retry.MaxAsks, RetryDelay: retryDelay, MaxRetryDelay: retry.MaxAsked, ShouldRetry: shouldRetry,
	}
	transport := http.DefaultTransport
	if standard, ok := transport.(*http.Transport); ok {
		transport = standard.Clone() // a pool of its own
	}
	options.Transport = &http.Client{Transport: retry.Watch{Next: transport}}
	options.PerCallPolicies = append(options.PerCallPolicies, callPolicy{})
	options.PerRetryPolicies = append(options.PerRetryPolicies, tryPolicy{})
}

// withBudget makes the pauses between tries fit the context's budget.
func withBudget(ctx context.Context, options policy.RetryOptions) context.Context {
	options.RetryDelay = min(options.RetryDelay, retry.Budget(ctx)/delaysPerBudget)
	return policy.WithRetryOptions(ctx, options)
}

// shouldRetry is azcore's own rule, but for an address at which nobody listens: Resource
// Manager is not one server that may be restarting.
func shouldRetry(response *http.Response, err error) bool {
	if err != nil {
		return retry.PassingError(err) && !retry.Refused(err)
	}
	return retry.PassingStatus(response.StatusCode)
}

// call is one request with all its tries.
type call struct {
	began   time.Time
	asked   time.Duration // of the time since, what Azure asked to wait
	tries   int
	trouble string // of the last try
}

// callPolicy is around all tries of a request.
type callPolicy struct{}

func (callPolicy) Do(request *policy.Request) (*http.Response, error) {
	c := &call{began: time.Now()}
	request.SetOperationValue(c)
	response, err := request.Next()
	if ctx := request.Raw().Context(); err != nil && ctx.Err() != nil && c.trouble != "" {
		err = fmt.Errorf("%s: %w", c.trouble, err) // the time is up; for what, azcore does not say
	}
	return response, err
}

// tryPolicy is around each try: it says what is waited for, and ends the tries in time.
type tryPolicy struct{}

func (tryPolicy) Do(request *policy.Request) (*http.Response, error) {
	var c *call
	if !request.OperationValue(&c) {
		return request.Next()
	}
	ctx := request.Raw().Context()
	response, err := request.Next()
	c.tries++
	asked := retry.Asked(response)
	switch {
	case err != nil && shouldRetry(nil, err):
		c.trouble = retry.Words(err)
	case err != nil || !shouldRetry(response, nil):
		c.trouble = ""
		return response, err
	case asked > 0:
		c.asked += asked
		c.trouble = fmt.Sprintf("Azure asks to wait %s (HTTP %d)", asked.Round(time.Millisecond), response.StatusCode)
	default:
		c.trouble = fmt.Sprintf("Azure answered HTTP %d", response.StatusCode)
	}
	switch {
	case c.tries > retry.MaxAsks, asked > retry.MaxAsked: // azcore gives up too
	case asked == 0 && time.Since(c.began)-c.asked >= retry.Budget(ctx):
		if err == nil {
			return nil, retry.Final{Err: runtime.NewResponseError(response)}
		}
		return nil, &retry.GaveUpError{Peer: "Azure", Trouble: retry.Words(err), Tries: c.tries}
	case asked > 0:
		retry.Say(ctx, c.trouble)
	default:
		retry.Say(ctx, c.trouble+"; trying again")
	}
	return response, err
}
