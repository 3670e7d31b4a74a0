package traffic

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"net"
	"net/http"
)

// maxHeld is how much of an answer is held back; a longer one is sent as it comes.
const maxHeld = 4 << 20

// answer remembers the status of what a service answers and holds it back until the service
// has done all of its work and the request is recorded.
type answer struct {
	http.ResponseWriter
	status  int
	held    *bytes.Buffer // nil: nothing is held back
	lost    bool          // the connection has been reset
	settled func() bool   // called once, before what is held back is sent; false: it is to be lost
}

// WriteHeader remembers the status. Those below 200 only announce the one that follows.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	if a.held == nil && !a.lost {
		a.ResponseWriter.WriteHeader(status)
	}
}

func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.held != nil {
		if a.held.Len()+len(p) <= maxHeld {
			return a.held.Write(p)
		}
		a.settle()
		a.send()
	}
	if a.lost {
		return 0, net.ErrClosed
	}
	return a.ResponseWriter.Write(p)
}

// settle asks whether the answer that is held back is to be sent.
func (a *answer) settle() {
	if a.held == nil || a.settled == nil {
		return
	}
	settled := a.settled
	a.settled = nil
	if !settled() {
		a.reset()
	}
}

// send sends what was held back.
func (a *answer) send() {
	if a.held == nil {
		return
	}
	held := a.held
	a.held = nil
	if a.status == 0 {
		return // net/http writes the empty 200
	}
	a.ResponseWriter.WriteHeader(a.status)
	_, _ = a.ResponseWriter.Write(held.Bytes()) // the client has gone away
}

// FlushError is how http.ResponseController flushes; what is held back stays so.
func (a *answer) FlushError() error {
	if a.held != nil {
		return nil
	}
	if a.lost {
		return net.ErrClosed
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Hijack hands over the connection of a request that is upgraded to another protocol.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	a.status, a.held = http.StatusSwitchingProtocols, nil
	return http.NewResponseController(a.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController reach what is below.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// reset ends the connection with a TCP RST: the client cannot know whether it was heard.
func (a *answer) reset() {
	a.status, a.held, a.lost = 0, nil, true
	conn, _, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return
	}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn() // which says no goodbye
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // best effort: an orderly close is a lost answer too
	}
	conn.Close()
}

// Reset ends the connection of a request as a server that dies would.
func Reset(w http.ResponseWriter) {
	if a, ok := w.(*answer); ok {
		a.reset()
	}
}

// discard takes an answer that nobody will get.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}
