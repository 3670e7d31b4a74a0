package model

import (
	"bufio"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/amlaks/amlaks/reconcile/retry"
)

// rangeSize is the largest range for which the blob service gives a hash (Get Blob,
// x-ms-range-get-content-md5), and what azure-storage-blob reads at a time.
const rangeSize = 4 << 20

// partial is a blob that is being fetched: a sparse file, and a journal with a line for each
// range that is there, with the hash of what was written. A line that was written before its
// range reached the disk, which takes a loss of power, does not match and does not count.
type partial struct {
	data    *os.File
	journal *os.File
	size    int64

	mu     sync.Mutex
	done   []bool // by range
	resume int64  // bytes that were there
}

// lockTick is how often a blob that another process fetches is looked for.
const lockTick = 200 * time.Millisecond

// openPartial opens or begins one. It waits for another process that fetches the same blob,
// and gives nil when that has finished it.
func openPartial(ctx context.Context, name string, size int64, finished func() bool) (*partial, error) {
	said := false
	for {
		data, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(data.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && !isNamed(data, name) {
			data.Close() // whoever had it has moved it to its place meanwhile
			continue
		}
		if err == nil && finished() {
			return nil, errors.Join(os.Remove(name), data.Close())
		}
		if err == nil {
			p := &partial{data: data, size: size, done: make([]bool, (size+rangeSize-1)/rangeSize)}
			if err := p.load(ctx, name+".done"); err != nil {
				p.close()
				return nil, err
			}
			return p, nil
		}
		data.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if !said {
			said = true
			retry.Say(ctx, "another run fetches the same model; waiting for it")
		}
		if err := retry.Pause(ctx, lockTick); err != nil {
			return nil, err
		}
	}
}

func isNamed(file *os.File, name string) bool {
	opened, err := file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(name)
	return err == nil && os.SameFile(opened, named)
}

// load reads the journal and checks the ranges that it tells of.
func (p *partial) load(ctx context.Context, journal string) (err error) {
	if err := p.data.Truncate(p.size); err != nil {
		return err
	}
	if p.journal, err = os.OpenFile(journal, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	lines := bufio.NewScanner(p.journal)
	for lines.Scan() {
		var index int
		var sum string
		if _, err := fmt.Sscanf(lines.Text(), "%d %32s", &index, &sum); err != nil || index < 0 || index >= len(p.done) {
			continue
		}
		offset, count := p.bounds(index)
		hash := md5.New()
		if _, err := io.Copy(hash, reader{ctx, io.NewSectionReader(p.data, offset, count)}); err != nil {
			return err
		}
		if !p.done[index] && hex.EncodeToString(hash.Sum(nil)) == sum {
			p.done[index] = true
			p.resume += count
		}
	}
	// Half a line may be the last of a process that was killed; the next one begins a line.
	_, err = p.journal.WriteString("\n")
	return errors.Join(err, lines.Err())
}

// bounds of a range.
func (p *partial) bounds(index int) (offset, count int64) {
	offset = int64(index) * rangeSize
	return offset, min(rangeSize, p.size-offset)
}

// missing gives the ranges that are not there yet.
func (p *partial) missing() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	var missing []int
	for index, done := range p.done {
		if !done {
			missing = append(missing, index)
		}
	}
	return missing
}

// wrote notes that a range is there.
func (p *partial) wrote(index int, sum []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[index] = true
	_, err := fmt.Fprintf(p.journal, "%d %s\n", index, hex.EncodeToString(sum))
	return err
}

// forget begins all over, the next time.
func (p *partial) forget() error {
	return errors.Join(os.Remove(p.journal.Name()), os.Remove(p.data.Name()))
}

// finish removes the journal of a blob that has moved to its place.
func (p *partial) finish() error { return os.Remove(p.journal.Name()) }

func (p *partial) close() {
	if p.journal != nil {
		p.journal.Close()
	}
	p.data.Close() // and its lock
}
