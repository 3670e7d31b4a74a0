package source

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"unicode"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/skeema/knownhosts"

	"github.com/amlaks/amlaks/reconcile"
)

// explain says what was being done to which repository, and gives the reason and the hint.
// Errors that callers branch on pass through.
func (s *Source) explain(ctx context.Context, doing string, err error) error {
	wrap := func(err error) error { return fmt.Errorf("%s %s: %w", doing, s.remote.name, err) }
	if moved := (*MovedError)(nil); errors.As(err, &moved) {
		return wrap(moved)
	}
	if invalid := (*InvalidTreeError)(nil); errors.As(err, &invalid) {
		return wrap(invalid)
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
		if errors.Is(err, context.Canceled) {
			return wrap(err) // asked for by the caller, and thus no failure of the server
		}
	}
	if local := (*fs.PathError)(nil); errors.As(err, &local) {
		return wrap(err) // this machine's disk; no word for it is of use to a caller
	}
	reason, hint, cause := classify(err)
	return &reconcile.Failure{Reason: reason, Err: wrap(cause), Hint: hint}
}

const (
	hintSignIn     = "check the user name and the token, and that the token may read this repository"
	hintRepository = "check the URL; some servers also say this of a repository that the credentials cannot see"
)

// classify turns what transports say into a reason, a hint and a short cause.
func classify(err error) (reason reconcile.Reason, hint string, cause error) {
	var (
		noRef    *noRefError
		said     *serverError
		status   *githttp.Err
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		network  *net.OpError
		lookup   *net.DNSError
		large    *tooLargeError
	)
	// go-git's own wrapping does not unwrap.
	if unexpected := (*plumbing.UnexpectedError)(nil); errors.As(err, &unexpected) {
		err = unexpected.Err
	}
	if permanent := (*plumbing.PermanentError)(nil); errors.As(err, &permanent) {
		err = permanent.Err
	}
	text := err.Error()
	switch {
	case errors.As(err, &noRef):
		hint = "push it first"
		if len(noRef.near) > 0 {
			hint = "the repository has " + strings.Join(noRef.near, ", ")
		}
		return reconcile.ReasonNotFound, hint, noRef
	case errors.Is(err, transport.ErrEmptyRemoteRepository):
		return reconcile.ReasonNotFound, "push a commit with an amlaks.yaml to it", transport.ErrEmptyRemoteRepository
	case errors.Is(err, transport.ErrAuthenticationRequired):
		return reconcile.ReasonForbidden, hintSignIn, errors.New("401, authentication required")
	case errors.Is(err, transport.ErrAuthorizationFailed):
		return reconcile.ReasonForbidden, hintSignIn, errors.New("403, not allowed")
	case errors.Is(err, errSignInPage), strings.Contains(text, "http redirect: target"):
		// Azure DevOps sends a wrong token to its sign-in page, which is not /info/refs.
		return reconcile.ReasonForbidden, hintSignIn, errSignInPage
	case errors.Is(err, transport.ErrRepositoryNotFound):
		return reconcile.ReasonNotFound, hintRepository, errors.New("repository not found")
	case knownhosts.IsHostKeyChanged(err):
		return reconcile.ReasonForbidden, "somebody may be listening in; if the host has new keys, compare them with those it publishes and correct known_hosts",
			errors.New("the host's key is not the one in known_hosts")
	case knownhosts.IsHostUnknown(err):
		return reconcile.ReasonForbidden, "add its key with ssh-keyscan after comparing it with the one it publishes",
			errors.New("the host is not in known_hosts")
	case strings.Contains(text, "unable to authenticate"): // x/crypto/ssh has no type for it
		return reconcile.ReasonForbidden, "register the public key with the server, or name another key file",
			errors.New("the server accepts none of the SSH keys")
	case errors.As(err, &said):
		lower := strings.ToLower(said.said)
		for _, word := range []string{"not found", "not exist", "does not appear to be a git repository", "could not be found", "no such"} {
			if strings.Contains(lower, word) {
				return reconcile.ReasonNotFound, hintRepository, said
			}
		}
		for _, word := range []string{"denied", "permission", "not allowed", "forbidden"} {
			if strings.Contains(lower, word) {
				return reconcile.ReasonForbidden, hintSignIn, said
			}
		}
		return reconcile.ReasonUnavailable, "see what the server says; it will be tried again", said
	case errors.As(err, &large):
		return reconcile.ReasonUnavailable, "follow a repository that holds the spec and its code only", large
	case errors.As(err, &unknown), errors.As(err, &hostname):
		return reconcile.ReasonUnavailable, "name the authority's certificate in SSL_CERT_FILE", fmt.Errorf("TLS: %w", err)
	case errors.As(err, &status):
		return reconcile.ReasonUnavailable, "it will be tried again", fmt.Errorf("the server answers %d", status.StatusCode())
	case errors.As(err, &lookup):
		return reconcile.ReasonUnavailable, "check the host name, and DNS", fmt.Errorf("no address for host %s", lookup.Name)
	case errors.As(err, &network):
		return reconcile.ReasonUnavailable, "check that the host is up and that a firewall lets this machine through", network
	}
	return reconcile.ReasonUnavailable, "it will be tried again", err
}

// oneLine makes text of a server fit to be shown in a line of a log.
func oneLine(text string) string {
	fields := strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
	line := strings.Join(fields, " ")
	if len(line) > 300 {
		line = strings.ToValidUTF8(line[:300], "") + "..."
	}
	return line
}
