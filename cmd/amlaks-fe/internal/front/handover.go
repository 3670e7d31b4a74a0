package front

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// A service moves to another coordinator when front ends come and go. What the
// old one still has in flight would be unknown to the new one, which would
// overrun replicas. So a new coordinator asks the others before it binds its
// first request, and counts theirs as its own until they have ended.

const (
	// HandoverPath is on the admin port.
	HandoverPath = "/handover"
	// pause is for how long a front end that is asked stops binding: longer than
	// it takes it to hear of the change itself.
	pause = 250 * time.Millisecond
	// askAgain is how often what is left in flight is asked for.
	askAgain = 20 * time.Millisecond
	// askTimeout bounds the wait for a front end that is gone without a word.
	askTimeout  = 300 * time.Millisecond
	maxHandover = 1 << 20
)

// takeOver starts a handover for every service that has become this front
// end's, and ends those of services that are so no more. s.mu is held.
func (s *Server) takeOver(others []string) {
	for name, svc := range s.services {
		owned := s.owner(name) == s.config.Self
		cancel, had := s.owned[name]
		switch {
		case owned && !had:
			ctx, cancel := context.WithCancel(context.Background())
			s.owned[name] = cancel
			asked := slices.DeleteFunc(slices.Clone(others), func(ip string) bool { return ip == s.config.Self })
			if len(asked) > 0 {
				svc.hold(1)
				go s.handover(ctx, svc, asked)
			}
		case !owned && had:
			cancel()
			delete(s.owned, name)
		}
	}
	for name, cancel := range s.owned {
		if s.services[name] == nil {
			cancel()
			delete(s.owned, name)
		}
	}
}

func (svc *service) hold(n int) {
	for _, q := range svc.queues {
		q.Hold(n)
	}
}

// handover keeps the others' requests counted until they are none.
func (s *Server) handover(ctx context.Context, svc *service, others []string) {
	// Whatever an old coordinator bound has ended by then.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(svc.ScoringTimeoutMs)*time.Millisecond+linger)
	defer cancel()
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for first := true; ; first = false {
		elsewhere := map[string]int{}
		for _, ip := range others {
			inFlight, err := s.ask(ctx, ip, svc.Name)
			if err != nil {
				s.config.Log.Info("front end does not answer", "peer", ip, "service", svc.Name, "error", err)
				continue
			}
			for address, n := range inFlight {
				elsewhere[address] += n
			}
		}
		for _, q := range svc.queues {
			q.SetElsewhere(elsewhere)
		}
		if first {
			svc.hold(-1)
		}
		if len(elsewhere) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			for _, q := range svc.queues {
				q.SetElsewhere(nil)
			}
			return
		}
	}
}

// ask returns what a front end has in flight for a service, by replica address.
func (s *Server) ask(ctx context.Context, ip, service string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	address := url.URL{Scheme: "http", Host: net.JoinHostPort(ip, strconv.Itoa(s.config.AdminPort)), Path: HandoverPath, RawQuery: url.Values{"service": {service}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := s.peer.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", address.String(), resp.Status)
	}
	var inFlight map[string]int
	err = json.NewDecoder(io.LimitReader(resp.Body, maxHandover)).Decode(&inFlight)
	return inFlight, err
}

// Handover answers a front end that has become a service's coordinator. Only a
// known front end makes this one pause: others may only look.
func (s *Server) Handover(w http.ResponseWriter, r *http.Request) {
	inFlight := map[string]int{}
	if svc := s.service(r.FormValue("service")); svc != nil {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		s.mu.RLock()
		known := slices.Contains(s.peers, host)
		s.mu.RUnlock()
		if known {
			svc.hold(1)
			time.AfterFunc(pause, func() { svc.hold(-1) })
		}
		for _, q := range svc.queues {
			maps.Copy(inFlight, q.Stats().InFlight)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(inFlight)
}
