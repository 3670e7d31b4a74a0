package sandbox

import (
	"context"
	"net/http"
)

// SetQuota sets the limit of one of the workspace's subscription's vCPU quotas: cores,
// lowPriorityCores, or a VM family's name (standardDDSv5Family).
func (s *Sandbox) SetQuota(name string, limit int) error { return s.arm.SetQuota(name, limit) }

// RestrictSize takes a VM size from the subscription (NotAvailableForSubscription): in these
// zones, or as a whole.
func (s *Sandbox) RestrictSize(name string, zones ...string) error {
	return s.arm.RestrictSize(name, zones...)
}

type quotaCall struct {
	Name  string
	Limit int
}

type restrictionCall struct {
	Size  string
	Zones []string
}

// computeAdmin serves the methods of Client below.
func (s *Sandbox) computeAdmin(mux *http.ServeMux) {
	mux.HandleFunc("POST /quotas", func(w http.ResponseWriter, r *http.Request) {
		var call quotaCall
		err := question(r, &call)
		if err == nil {
			err = s.SetQuota(call.Name, call.Limit)
		}
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("POST /restrictions", func(w http.ResponseWriter, r *http.Request) {
		var call restrictionCall
		err := question(r, &call)
		if err == nil {
			err = s.RestrictSize(call.Size, call.Zones...)
		}
		answer(w, struct{}{}, err)
	})
}

// SetQuota sets a vCPU quota, as Sandbox.SetQuota.
func (c *Client) SetQuota(ctx context.Context, name string, limit int) error {
	return c.call(ctx, http.MethodPost, "/quotas", quotaCall{name, limit}, nil)
}

// RestrictSize takes a VM size from the subscription, as Sandbox.RestrictSize.
func (c *Client) RestrictSize(ctx context.Context, size string, zones ...string) error {
	return c.call(ctx, http.MethodPost, "/restrictions", restrictionCall{size, zones}, nil)
}
