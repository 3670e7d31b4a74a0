package front

import (
	"context"
	"io"
	"net"
	"sync"
	"time"
)

// trailing is how much longer a replica that has begun its answer is listened
// to after the request was given up.
const trailing = time.Second

// replicaConn is a connection to a replica whose Close lets the replica finish
// first. When a request is given up (timeout, client gone) the container may
// still be computing; its slot must stay taken for that long. Closing only our
// half tells a server that watches for it to stop, and the end of its half
// tells us that it did.
type replicaConn struct {
	net.Conn
	linger time.Duration
	once   sync.Once
	closed chan struct{} // closed when the replica is done
}

func (c *replicaConn) Close() error {
	c.once.Do(func() { go c.finish() })
	return nil
}

func (c *replicaConn) finish() {
	defer close(c.closed)
	defer c.Conn.Close()
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	if c.SetReadDeadline(time.Now().Add(c.linger)) != nil {
		return
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return
	}
	// The answer is on its way. Most end here; an endless stream is cut.
	if c.SetReadDeadline(time.Now().Add(trailing)) == nil {
		_, _ = io.Copy(io.Discard, c.Conn)
	}
}

// dialReplica connects to a replica.
func dialReplica(linger time.Duration) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &replicaConn{Conn: conn, linger: linger, closed: make(chan struct{})}, nil
	}
}
