package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5/plumbing/transport"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// remote is a checked address and how to open a session there.
type remote struct {
	name string // for people; without password
	open func(ctx context.Context) (transport.UploadPackSession, error)
}

// scpLike is git's short form of an SSH address, user@host:path. A slash before the colon
// would make it a local path.
var scpLike = regexp.MustCompile(`^([A-Za-z0-9._-]+)@([A-Za-z0-9.-]+):([^:].*)$`)

func newRemote(o Options) (*remote, error) {
	if o.URL == "" {
		return nil, errors.New("git URL: must not be empty")
	}
	if m := scpLike.FindStringSubmatch(o.URL); m != nil && !strings.Contains(o.URL, "://") {
		return newSSHRemote(o, sshAddress{user: m[1], host: net.JoinHostPort(m[2], "22"), path: m[3]}, o.URL)
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		// The error of url.Parse quotes the URL, password and all.
		if parse := (*url.Error)(nil); errors.As(err, &parse) {
			err = parse.Err
		}
		if strings.Contains(o.URL, "@") {
			err = errors.New("not a URL")
		}
		return nil, fmt.Errorf("git URL: %w", err)
	}
	if _, has := u.User.Password(); has {
		return nil, fmt.Errorf("git URL %s: must not contain a password, which would show in process lists and logs; "+
			"give it by environment", u.Redacted())
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("git URL %s://%s%s: must not have a query or a fragment", u.Scheme, u.Host, u.EscapedPath())
	}
	name := u.String()
	switch u.Scheme {
	case "https", "http":
	case "ssh":
		user := u.User.Username()
		if user == "" {
			user = "git"
		}
		port := u.Port()
		if port == "" {
			port = "22"
		}
		if u.Hostname() == "" || strings.Trim(u.Path, "/") == "" {
			return nil, fmt.Errorf("git URL %s: wants ssh://user@host/path", name)
		}
		return newSSHRemote(o, sshAddress{user: user, host: net.JoinHostPort(u.Hostname(), port), path: u.Path}, name)
	case "file", "":
		return nil, fmt.Errorf("git URL %s: a local repository cannot be polled; serve it over https or ssh", name)
	default:
		return nil, fmt.Errorf("git URL %s: unknown scheme %q; use https:// or ssh://", name, u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("git URL %s: has no host", name)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		if !o.PlainHTTP {
			return nil, fmt.Errorf("git URL %s: plain http is for loopback only; use https", name)
		}
		if o.Auth.Password != "" {
			return nil, fmt.Errorf("git URL %s: credentials are not sent over plain http; use https", name)
		}
	}
	return newHTTPRemote(o, u, name)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func newHTTPRemote(o Options, u *url.URL, name string) (*remote, error) {
	port := 0
	if p := u.Port(); p != "" {
		var err error
		if port, err = strconv.Atoi(p); err != nil {
			return nil, fmt.Errorf("git URL %s: bad port", name)
		}
	}
	host := u.Hostname()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	var auth transport.AuthMethod
	if o.Auth.Password != "" || o.Auth.Username != "" || u.User.Username() != "" {
		user := o.Auth.Username
		if user == "" {
			user = u.User.Username()
		}
		if user == "" {
			user = "git" // GitHub and Azure DevOps take any name beside a token, but not none
		}
		auth = &githttp.BasicAuth{Username: user, Password: o.Auth.Password}
	}
	client := githttp.NewClient(newHTTPClient(o.Limits))
	return &remote{name: name, open: func(context.Context) (transport.UploadPackSession, error) {
		// A session edits its endpoint when it is redirected, so each gets its own. The path
		// stays escaped because the endpoint is glued together again as a string.
		endpoint := &transport.Endpoint{Protocol: u.Scheme, Host: host, Port: port,
			Path: strings.TrimSuffix(u.EscapedPath(), "/")}
		return client.NewUploadPackSession(endpoint, auth)
	}}, nil
}
