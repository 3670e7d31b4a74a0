package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probe runs the container's probes until ctx is done. Why the container must
// be restarted goes to unhealthy.
func (c *container) probe(ctx context.Context, unhealthy chan<- string) {
	if p := c.spec.StartupProbe; p != nil {
		ok := false
		c.repeat(ctx, "Startup", p, func(success bool) bool {
			ok = success
			return true // either way it is over
		})
		if ctx.Err() != nil {
			return
		}
		if !ok {
			unhealthy <- "failed startup probe"
			return
		}
		c.w.set(func() {
			c.startedUp = true
			c.ready = c.spec.ReadinessProbe == nil
		})
	}
	if p := c.spec.ReadinessProbe; p != nil {
		go c.repeat(ctx, "Readiness", p, func(success bool) bool {
			c.w.mu.Lock()
			same := c.ready == success
			c.w.mu.Unlock()
			if !same && ctx.Err() == nil {
				c.w.set(func() { c.ready = success })
			}
			return false
		})
	}
	if p := c.spec.LivenessProbe; p != nil {
		c.repeat(ctx, "Liveness", p, func(success bool) bool {
			if !success && ctx.Err() == nil {
				unhealthy <- "failed liveness probe"
			}
			return !success
		})
	}
}

// firstProbe is how soon a readiness or startup probe without a delay is tried
// again while it has never succeeded: a service that is up in a second need not
// wait for a period of ten.
const firstProbe = 250 * time.Millisecond

// repeat probes by the probe's times and thresholds and reports each verdict
// until report returns true.
func (c *container) repeat(ctx context.Context, kind string, p *corev1.Probe, report func(bool) bool) {
	wait := func(d time.Duration) bool {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		}
	}
	if !wait(time.Duration(p.InitialDelaySeconds) * time.Second) {
		return
	}
	period := time.Duration(max(p.PeriodSeconds, 1)) * time.Second
	began := time.Now()
	var good, bad int32
	ever := false
	for ctx.Err() == nil {
		err := c.try(ctx, p)
		if ctx.Err() != nil {
			return
		}
		early := false
		switch {
		case err == nil:
			good, bad, ever = good+1, 0, true
			if good >= max(p.SuccessThreshold, 1) && report(true) {
				return
			}
		case !ever && kind != "Liveness" && time.Since(began) < period:
			early = true // not counted: it is before the second probe's time
		default:
			good, bad = 0, bad+1
			c.w.event(corev1.EventTypeWarning, "Unhealthy", "%s probe failed: %v", kind, err)
			if bad >= max(p.FailureThreshold, 1) && report(false) {
				return
			}
		}
		pause := period
		if early {
			pause = min(firstProbe, period)
		}
		if !wait(pause) {
			return
		}
	}
}

func (c *container) try(ctx context.Context, p *corev1.Probe) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(max(p.TimeoutSeconds, 1))*time.Second)
	defer cancel()
	switch {
	case p.HTTPGet != nil:
		return c.httpGet(ctx, p.HTTPGet)
	case p.TCPSocket != nil:
		port, err := c.port(p.TCPSocket.Port)
		if err != nil {
			return err
		}
		conn, err := c.w.dial(ctx, port)
		if err != nil {
			return err
		}
		return conn.Close()
	}
	return errors.New("this node knows httpGet and tcpSocket probes only")
}

// maxProbeBody is what is read of an answer.
const maxProbeBody = 10 << 10

func (c *container) httpGet(ctx context.Context, h *corev1.HTTPGetAction) error {
	port, err := c.port(h.Port)
	if err != nil {
		return err
	}
	u := &url.URL{Scheme: strings.ToLower(string(h.Scheme)), Host: net.JoinHostPort(c.w.address(), strconv.Itoa(port))}
	if u.Scheme == "" {
		u.Scheme = "http"
	}
	path, err := url.Parse(h.Path)
	if err != nil {
		return err
	}
	u = u.ResolveReference(&url.URL{Path: "/" + strings.TrimPrefix(path.Path, "/"), RawQuery: path.RawQuery})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", "kube-probe/1.37")
	for _, header := range h.HTTPHeaders {
		if strings.EqualFold(header.Name, "host") {
			req.Host = header.Value
			continue
		}
		req.Header.Add(header.Name, header.Value)
	}
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.w.dial(ctx, port) },
		DisableKeepAlives: true,
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, maxProbeBody)); err != nil {
		return err
	}
	if resp.StatusCode < 200 || resp.StatusCode >= 400 {
		return fmt.Errorf("HTTP probe failed with statuscode: %d", resp.StatusCode)
	}
	return nil
}

// port is a probe's, by number or by name.
func (c *container) port(p intstr.IntOrString) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, cp := range c.spec.Ports {
		if cp.Name == p.StrVal {
			return int(cp.ContainerPort), nil
		}
	}
	return 0, fmt.Errorf("container %s has no port %q", c.spec.Name, p.StrVal)
}
