package traffic

import (
	"net/http"
	"strconv"
)

// cut sends half of an answer that says how long it is, and resets the connection then.
type cut struct {
	*answer
	left    int
	started bool
}

// Write implements http.ResponseWriter.
func (c *cut) Write(p []byte) (int, error) {
	if !c.started {
		c.started = true
		length, err := strconv.Atoi(c.Header().Get("Content-Length"))
		if err != nil {
			length = 2 * len(p)
		}
		c.left = length / 2
	}
	if len(p) <= c.left {
		c.left -= len(p)
		return c.answer.Write(p)
	}
	n, err := c.answer.Write(p[:c.left])
	if err != nil {
		return n, err
	}
	// What is held back goes out first, so that the client has begun to read.
	c.answer.settle()
	c.answer.send()
	if err := http.NewResponseController(c.answer.ResponseWriter).Flush(); err != nil {
		return n, err
	}
	c.answer.reset()
	return n, http.ErrAbortHandler
}
