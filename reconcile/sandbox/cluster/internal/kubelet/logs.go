package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// A container's log is at most two files of this size: the one that is being
// written and the one before it.
const maxLog = 8 << 20

// maxLine is where a line without an end is cut.
const maxLine = 16 << 10

// logFile is the log of one run of a container, a line each:
//
//	2026-01-02T15:04:05.000000000Z stdout text
type logFile struct {
	name string

	mu     sync.Mutex
	file   *os.File
	size   int64
	closed bool
}

func (w *workload) logName(container string, run int32) string {
	return filepath.Join(w.dir, "logs", container, strconv.Itoa(int(run))+".log")
}

func older(name string) string { return name + ".1" }

func createLog(name string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &logFile{name: name, file: f, size: fi.Size()}, nil
}

func removeLog(name string) {
	_ = os.Remove(name)
	_ = os.Remove(older(name))
}

// copy writes what comes from a pipe, line by line, until its end.
func (l *logFile) copy(stream string, from *os.File) {
	defer from.Close()
	r := bufio.NewReaderSize(from, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		if len(line) > 0 {
			l.write(stream, bytes.TrimSuffix(line, []byte("\n")))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *logFile) write(stream string, line []byte) {
	entry := make([]byte, 0, len(line)+48)
	entry = time.Now().UTC().AppendFormat(entry, logTime)
	entry = append(entry, ' ')
	entry = append(entry, stream...)
	entry = append(entry, ' ')
	entry = append(entry, line...)
	entry = append(entry, '\n')
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(entry)) > maxLog {
		l.rotate()
	}
	// A full disk must not stop the container, and there is nowhere to say it.
	n, _ := l.file.Write(entry)
	l.size += int64(n)
}

// logTime is RFC 3339 with all nine digits, so that all prefixes have one length.
const logTime = "2006-01-02T15:04:05.000000000Z07:00"

func (l *logFile) rotate() {
	if err := os.Rename(l.name, older(l.name)); err != nil {
		return
	}
	f, err := os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return
	}
	l.file.Close()
	l.file, l.size = f, 0
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.file.Close()
}

// tail is the end of the log as text, for a termination message.
func (l *logFile) tail(most int) string {
	body, err := os.ReadFile(l.name)
	if err != nil {
		return ""
	}
	var out []byte
	for line := range bytes.Lines(body) {
		_, _, text := splitEntry(line)
		out = append(out, text...)
		out = out[max(0, len(out)-most):]
	}
	return string(out)
}

func splitEntry(entry []byte) (at time.Time, stamp, text []byte) {
	stamp, rest, ok := bytes.Cut(entry, []byte(" "))
	if !ok {
		return at, nil, entry
	}
	if at, _ = time.Parse(logTime, string(stamp)); at.IsZero() {
		return at, nil, entry
	}
	_, text, _ = bytes.Cut(rest, []byte(" "))
	return at, stamp, text
}

// logOptions are those of a request for logs.
type logOptions struct {
	tail       int // -1: all
	limit      int64
	since      time.Time
	timestamps bool
	follow     bool
}

// followEvery is how often a followed log is looked at.
const followEvery = 100 * time.Millisecond

// send writes the log as the options have it. With follow it goes on until
// ended is closed or ctx is done.
func sendLog(ctx context.Context, to io.Writer, flush func(), name string, o logOptions, ended <-chan struct{}) error {
	body, err := os.ReadFile(older(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	latest, err := io.ReadAll(io.LimitReader(f, maxLog+maxLine))
	if err != nil {
		return err
	}
	body = append(body, latest...)
	var rest []byte // the beginning of a line that is still being written
	body, rest = wholeLines(body)
	if o.tail >= 0 {
		body = lastLines(body, o.tail)
	}
	left := o.limit
	put := func(entries []byte) (done bool, err error) {
		for entry := range bytes.Lines(entries) {
			at, stamp, text := splitEntry(entry)
			if at.Before(o.since) {
				continue
			}
			if o.timestamps {
				text = append(append(bytes.Clone(stamp), ' '), text...)
			}
			if o.limit > 0 {
				text = text[:min(int64(len(text)), left)]
				left -= int64(len(text))
			}
			if _, err := to.Write(text); err != nil {
				return true, err
			}
			if o.limit > 0 && left == 0 {
				return true, nil
			}
		}
		flush()
		return false, nil
	}
	if done, err := put(body); done || err != nil || !o.follow {
		return err
	}
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for last := false; !last; {
		select {
		case <-ctx.Done():
			return nil
		case <-ended:
			last = true // what was written just before its end is still read
		case <-tick.C:
		}
		more, err := io.ReadAll(io.LimitReader(f, maxLog+maxLine))
		if err != nil {
			return err
		}
		if rotated(f, name) && len(more) == 0 {
			next, err := os.Open(name)
			if err != nil {
				return err
			}
			f.Close()
			f, last = next, false
			continue
		}
		body, rest = wholeLines(append(rest, more...))
		if done, err := put(body); done || err != nil {
			return err
		}
	}
	return nil
}

func rotated(f *os.File, name string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(name)
	return err == nil && !os.SameFile(a, b)
}

func wholeLines(body []byte) (whole, rest []byte) {
	end := bytes.LastIndexByte(body, '\n') + 1
	return body[:end], bytes.Clone(body[end:])
}

func lastLines(body []byte, n int) []byte {
	at := len(body)
	for ; n > 0 && at > 0; n-- {
		at = bytes.LastIndexByte(body[:at-1], '\n') + 1
	}
	return body[at:]
}
