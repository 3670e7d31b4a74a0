package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ports are those at which the pod's address answers: what its containers
// declare.
func (w *workload) ports() []int {
	set := map[int]bool{}
	for _, c := range w.spec.Containers {
		for _, p := range c.Ports {
			if p.Protocol == "" || p.Protocol == corev1.ProtocolTCP {
				set[int(p.ContainerPort)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// dial connects to a port of the pod from within its network.
func (w *workload) dial(ctx context.Context, port int) (net.Conn, error) {
	w.mu.Lock()
	box, ip := w.box, w.ip
	w.mu.Unlock()
	if box == nil {
		return nil, errEnding
	}
	address := net.JoinHostPort(ip, strconv.Itoa(port))
	if w.hostNet {
		var d net.Dialer
		return d.DialContext(ctx, "tcp4", address)
	}
	return box.Dial(ctx, address)
}

// dialTimeout is for a connection within one machine.
const dialTimeout = 5 * time.Second

// forward answers at the pod's address with what listens in its network.
func (w *workload) forward(port int) error {
	l, err := net.Listen("tcp4", net.JoinHostPort(w.ip, strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("listen on the pod's address: %w", err)
	}
	w.mu.Lock()
	box := w.box
	w.mu.Unlock()
	// The listener lives as long as the pod's namespaces.
	go func() {
		<-box.Done()
		l.Close()
	}()
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			go func() {
				ctx, cancel := context.WithTimeout(w.kill, dialTimeout)
				to, err := w.dial(ctx, port)
				cancel()
				if err != nil {
					refuse(conn)
					return
				}
				Splice(conn, to)
			}()
		}
	}()
	return nil
}

// refuse ends a connection with a reset, as a port does on which nobody listens.
func refuse(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	conn.Close()
}

// Splice carries bytes both ways until both sides have said their last, and
// closes both. The end of one direction is passed on alone. Between two TCP
// connections the kernel moves the bytes (splice(2), by net.TCPConn.ReadFrom).
func Splice(a, b net.Conn) {
	var both sync.WaitGroup
	carry := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		t, ok := to.(*net.TCPConn)
		switch {
		case err != nil:
			refuse(to)
			refuse(from)
		case ok:
			_ = t.CloseWrite()
		}
	}
	both.Go(func() { carry(a, b) })
	both.Go(func() { carry(b, a) })
	both.Wait()
	a.Close()
	b.Close()
}
