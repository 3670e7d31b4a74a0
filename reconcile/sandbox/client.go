package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// maxAnswer bounds what a Client reads: a full log of requests.
const maxAnswer = 2 << 30

// Client talks to a sandbox that runs in another process, over the socket in its folder.
type Client struct{ http *http.Client }

// Connect finds the sandbox of a folder. It fails when none runs there.
func Connect(ctx context.Context, dir string) (*Client, error) {
	content, err := os.ReadFile(filepath.Join(dir, "admin"))
	if err != nil {
		return nil, fmt.Errorf("no sandbox runs in %s: %w", dir, err)
	}
	socket := strings.TrimSpace(string(content))
	c := &Client{http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
	if _, err := c.Info(ctx); err != nil {
		return nil, fmt.Errorf("no sandbox runs in %s: %w", dir, err)
	}
	return c, nil
}

// call sends a question to the sandbox and reads the answer into what is given.
func (c *Client) call(ctx context.Context, method, path string, question, answer any) error {
	content, err := json.Marshal(question)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://sandbox"+path, bytes.NewReader(content))
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	decoder := json.NewDecoder(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode != http.StatusOK {
		var refused struct{ Error struct{ Message string } }
		if err := decoder.Decode(&refused); err != nil || refused.Error.Message == "" {
			return fmt.Errorf("the sandbox answers %s", response.Status)
		}
		return errors.New(refused.Error.Message)
	}
	if answer == nil {
		return nil
	}
	return decoder.Decode(answer)
}

// Info tells what is where.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	return info, c.call(ctx, http.MethodGet, "/info", nil, &info)
}

// Requests gives what a service has seen, as Sandbox.Requests.
func (c *Client) Requests(ctx context.Context, service string) ([]Request, error) {
	var requests []Request
	return requests, c.call(ctx, http.MethodGet, "/requests?service="+url.QueryEscape(service), nil, &requests)
}

// ClearRequests forgets the requests seen.
func (c *Client) ClearRequests(ctx context.Context) error {
	return c.call(ctx, http.MethodDelete, "/requests", nil, nil)
}

// Fault makes coming requests fail.
func (c *Client) Fault(ctx context.Context, fault Fault) (Fault, error) {
	return fault, c.call(ctx, http.MethodPost, "/faults", fault, &fault)
}

// Faults gives those that still wait for a request.
func (c *Client) Faults(ctx context.Context) ([]Fault, error) {
	var faults []Fault
	return faults, c.call(ctx, http.MethodGet, "/faults", nil, &faults)
}

// ClearFaults takes all faults back, as Sandbox.ClearFaults.
func (c *Client) ClearFaults(ctx context.Context) error {
	return c.call(ctx, http.MethodDelete, "/faults", nil, nil)
}

// RegisterModel registers a file or folder; path is absolute, or relative to the working directory.
func (c *Client) RegisterModel(ctx context.Context, name, version, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	return c.call(ctx, http.MethodPost, "/models", modelCall{Name: name, Version: version, Path: path}, nil)
}

// Overlay writes over an ARM resource, as Sandbox.Overlay.
func (c *Client) Overlay(ctx context.Context, id string, merge map[string]any) error {
	return c.call(ctx, http.MethodPost, "/overlays", overlayCall{ID: id, Merge: merge}, nil)
}

// Repository makes an empty bare git repository, unless there is one.
func (c *Client) Repository(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/repositories/"+url.PathEscape(name), nil, nil)
}

// CreateCluster makes an AKS cluster and waits until it is there.
func (c *Client) CreateCluster(ctx context.Context, request ClusterRequest) error {
	return c.call(ctx, http.MethodPost, "/clusters", request, nil)
}
