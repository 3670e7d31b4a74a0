package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// netLockPort is listened on at the first address of a cluster's network for
// as long as the cluster runs, so that no other sandbox of this machine takes
// the same network. The number means nothing.
const netLockPort = 10249

// Host parts of a cluster's 127.A.B.0/24. The first address is the control
// plane's; the others are given out and taken back.
const (
	firstPodHost     = 2
	lastPodHost      = 219
	firstIngressHost = 220
	lastIngressHost  = 250
)

// state is what must be the same after a restart on the same folder: where
// the components listen and which addresses pods and Services have.
type state struct {
	mu   sync.Mutex
	file string
	lock net.Listener

	// Network is the first three bytes, as in 127.20.7.
	Network string         `json:"network"`
	Ports   map[string]int `json:"ports"`
	// Pods is the host part by pod UID, Ingress that by Service UID.
	Pods    map[string]int `json:"pods"`
	Ingress map[string]int `json:"ingress"`
}

// The ports of a control plane.
const (
	portEtcd      = "etcd"
	portEtcdPeer  = "etcd-peer"
	portAPIServer = "kube-apiserver"
	portKubelet   = "kubelet"
)

// openState reads dir's state, or makes one on a free network, and takes the
// network's lock.
func openState(dir string) (*state, error) {
	s := &state{file: filepath.Join(dir, "state.json")}
	body, err := os.ReadFile(s.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = s.choose()
	case err != nil:
		return nil, err
	default:
		if err = json.Unmarshal(body, s); err != nil {
			return nil, fmt.Errorf("read %s: %w", s.file, err)
		}
		if s.lock, err = net.Listen("tcp4", s.host(1, netLockPort)); err != nil {
			return nil, fmt.Errorf("the cluster of %s is running already, or its network is taken: %w", dir, err)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.Pods == nil {
		s.Pods = map[string]int{}
	}
	if s.Ingress == nil {
		s.Ingress = map[string]int{}
	}
	return s, s.save()
}

// choose takes a random network that nobody else has, and free ports in it.
func (s *state) choose() error {
	var last error
	for range 20 {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return err
		}
		// 127.0.x is where everybody else listens.
		s.Network = fmt.Sprintf("127.%d.%d", 1+int(b[0])%254, b[1])
		if s.lock, last = net.Listen("tcp4", s.host(1, netLockPort)); last != nil {
			continue
		}
		s.Ports = map[string]int{}
		for _, name := range []string{portEtcd, portEtcdPeer, portAPIServer, portKubelet} {
			l, err := net.Listen("tcp4", s.host(1, 0))
			if err != nil {
				return err
			}
			// All stay open until the loop is done, so that no two are the same.
			defer l.Close()
			s.Ports[name] = l.Addr().(*net.TCPAddr).Port
		}
		return nil
	}
	return fmt.Errorf("no free network in 127.0.0.0/8: %w", last)
}

// address is the control plane's.
func (s *state) address() string { return s.Network + ".1" }

func (s *state) endpoint(port string) string { return s.host(1, s.Ports[port]) }

// freeTimeout is for processes of this machine that have been killed already.
const freeTimeout = 15 * time.Second

// awaitFree waits until all ports can be listened on. After a kill of the
// sandbox its control plane dies with it, but not at once: the kernel takes a
// process' memory back before it closes its sockets, and a component that finds
// its port taken ends.
func (s *state) awaitFree(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, freeTimeout)
	defer cancel()
	for name := range s.Ports {
		err := poll(ctx, func(context.Context) error {
			l, err := net.Listen("tcp4", s.endpoint(name))
			if err != nil {
				return err
			}
			return l.Close()
		})
		if err != nil {
			return fmt.Errorf("the port of %s: %w", name, err)
		}
	}
	return nil
}

func (s *state) host(host, port int) string {
	return net.JoinHostPort(s.Network+"."+strconv.Itoa(host), strconv.Itoa(port))
}

// podAddress is the address of the pod with this UID, the same whenever asked
// until it is released.
func (s *state) podAddress(uid string) (string, error) {
	return s.take(s.Pods, uid, firstPodHost, lastPodHost)
}

func (s *state) releasePod(uid string) { s.release(s.Pods, uid) }

// ingressAddress is the same for a Service of type LoadBalancer.
func (s *state) ingressAddress(uid string) (string, error) {
	return s.take(s.Ingress, uid, firstIngressHost, lastIngressHost)
}

func (s *state) releaseIngress(uid string) { s.release(s.Ingress, uid) }

func (s *state) take(in map[string]int, uid string, first, last int) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	host, ok := in[uid]
	if !ok {
		used := map[int]bool{}
		for _, h := range in {
			used[h] = true
		}
		for host = first; used[host]; host++ {
		}
		if host > last {
			return "", fmt.Errorf("all %d addresses of %s.0/24 are taken", last-first+1, s.Network)
		}
		in[uid] = host
		if err := s.saveLocked(); err != nil {
			return "", err
		}
	}
	return s.Network + "." + strconv.Itoa(host), nil
}

func (s *state) release(in map[string]int, uid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := in[uid]; ok {
		delete(in, uid)
		// A release that is not written costs one address until the next write.
		_ = s.saveLocked()
	}
}

// retain releases the addresses of pods and Services that keep does not name.
func (s *state) retain(keep map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range []map[string]int{s.Pods, s.Ingress} {
		for uid := range m {
			if !keep[uid] {
				delete(m, uid)
			}
		}
	}
	_ = s.saveLocked()
}

func (s *state) save() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked()
}

func (s *state) saveLocked() error {
	body, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return writeFile(s.file, body, 0o600)
}

func (s *state) close() {
	if s.lock != nil {
		s.lock.Close()
	}
}

// writeFile replaces name at once, so that a kill leaves the old or the new.
func writeFile(name string, body []byte, mode fs.FileMode) error {
	temp := name + ".new"
	if err := os.WriteFile(temp, body, mode); err != nil {
		return err
	}
	return os.Rename(temp, name)
}
