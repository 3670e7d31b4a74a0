// Package retry sends requests again whose failure may pass, within bounds, and says what it
// waits for.
//
// How long to go on and whom to tell travel in the request's context, so that one flag and one
// line of progress serve Resource Manager, registries and clusters alike. Which requests may be
// sent twice is each client's own to say, see [Transport].
package retry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// DefaultBudget is how long a request is tried where nobody said otherwise: the control
	// plane of a small AKS cluster is away for about a minute when Azure moves it.
	DefaultBudget = 2 * time.Minute
	// MaxAsked bounds a wait that a server asks for; AKS' write budget is refilled once a minute.
	MaxAsked = 5 * time.Minute
	// MaxAsks is how often one request does as it is asked.
	MaxAsks = 6
	// silences is how many tries without any answer fit into a budget.
	silences = 4
)

type budgetKey struct{}

type sayKey struct{}

// WithBudget bounds each request made under the context: retries included, it has so long to
// get a good answer. What a server asks to wait (Retry-After) comes on top.
func WithBudget(ctx context.Context, budget time.Duration) context.Context {
	return context.WithValue(ctx, budgetKey{}, budget)
}

// Budget is that bound, never 0.
func Budget(ctx context.Context) time.Duration {
	if budget, ok := ctx.Value(budgetKey{}).(time.Duration); ok && budget > 0 {
		return budget
	}
	return DefaultBudget
}

// Silence is how long one try may go without a byte from the other side: a quarter of Budget.
func Silence(ctx context.Context) time.Duration { return Budget(ctx) / silences }

// WithSay names who is told what requests under the context wait for.
func WithSay(ctx context.Context, say func(message string)) context.Context {
	return context.WithValue(ctx, sayKey{}, say)
}

// Say tells it, if there is anybody.
func Say(ctx context.Context, message string) {
	if say, ok := ctx.Value(sayKey{}).(func(string)); ok && say != nil {
		say(message)
	}
}

// SilentError is a try that was given up because nothing came.
type SilentError struct{ Within time.Duration }

func (e *SilentError) Error() string { return fmt.Sprintf("no answer within %s", e.Within) }

// Timeout makes it one to those who look for such.
func (e *SilentError) Timeout() bool { return true }

// GaveUpError is a request that got no answer in any of its tries. It hides their errors from
// clients (client-go is one) that would begin all over at a connection that was reset.
type GaveUpError struct {
	Peer, Trouble string
	Tries         int
}

// NonRetriable says, to azcore too, that everything has been tried.
func (e *GaveUpError) NonRetriable() {}

func (e *GaveUpError) Error() string {
	times := ""
	if e.Tries > 1 {
		times = fmt.Sprintf(", %d times", e.Tries)
	}
	return fmt.Sprintf("%s does not answer: %s%s", e.Peer, e.Trouble, times)
}

// Final is an error that no second try mends: a request that this program itself refuses.
type Final struct{ Err error }

func (e Final) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e Final) Unwrap() error { return e.Err }

// NonRetriable says so, to azcore too.
func (e Final) NonRetriable() {}

// Words says what happened to a request, without its address, which the error around it has.
func Words(err error) string {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), strings.Contains(err.Error(), "http2:"):
		return "the connection was closed"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err.Error()
}

// PassingStatus tells whether an answer with that status may be another one later.
func PassingStatus(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// PassingError tells whether a request that got no answer may get one later. An address at
// which nobody listens counts as passing; see [Refused].
func PassingError(err error) bool {
	var unknown *net.DNSError
	var lasting interface{ NonRetriable() }
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return false
	case errors.As(err, &lasting), isTLS(err):
		return false
	}
	return true
}

// Refused tells whether nobody listens at the address.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// Asked is what the answer asks to wait before the next try; 0 if nothing.
func Asked(response *http.Response) time.Duration {
	if response == nil {
		return 0
	}
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if n, err := strconv.Atoi(response.Header.Get(name)); err == nil && n > 0 {
			return time.Duration(n) * time.Millisecond
		}
	}
	text := response.Header.Get("Retry-After")
	if n, err := strconv.Atoi(text); err == nil {
		return max(0, time.Duration(n)*time.Second)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

// Pause waits for d or the context's end, whose error it then gives.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
