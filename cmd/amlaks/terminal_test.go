package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a real pseudo-terminal, whose other end an emulator reads.
type terminal struct {
	t     *testing.T
	slave *os.File // what the program writes to
	ptmx  int
	sent  atomic.Int64 // bytes that will arrive

	mu       sync.Mutex
	emulator *emulator
	got      int64
	arrived  chan struct{}
}

func openTerminal(t *testing.T, columns, rows int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("a pseudo-terminal: %v", err)
	}
	tt := &terminal{t: t, ptmx: int(master.Fd()), emulator: newEmulator(columns, rows), arrived: make(chan struct{}, 1)}
	if err := unix.IoctlSetPointerInt(tt.ptmx, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(tt.ptmx, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if tt.slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	tt.resize(columns, rows)
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			tt.mu.Lock()
			tt.got += int64(n)
			tt.emulator.feed(string(buffer[:n]))
			tt.mu.Unlock()
			select {
			case tt.arrived <- struct{}{}:
			default:
			}
			if err != nil {
				return // EIO: the slave is closed
			}
		}
	})
	t.Cleanup(func() {
		tt.slave.Close()
		reading.Wait()
		master.Close()
		if len(tt.emulator.errors) > 0 {
			t.Errorf("written to the terminal: %s", strings.Join(tt.emulator.errors, ", "))
		}
	})
	return tt
}

// Write is the program's; the terminal's driver makes two bytes of a line end.
func (tt *terminal) Write(p []byte) (int, error) {
	tt.sent.Add(int64(len(p) + strings.Count(string(p), "\n")))
	return tt.slave.Write(p)
}

func (tt *terminal) size() (columns, rows int, err error) { return term.GetSize(int(tt.slave.Fd())) }

func (tt *terminal) resize(columns, rows int) {
	tt.t.Helper()
	if err := unix.IoctlSetWinsize(tt.ptmx, unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(columns), Row: uint16(rows)}); err != nil {
		tt.t.Fatal(err)
	}
	if columns > 0 {
		tt.settled(func(e *emulator) { e.resize(columns, rows) })
	}
}

// settled looks at the terminal when all that was written has arrived.
func (tt *terminal) settled(look func(*emulator)) {
	tt.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		tt.mu.Lock()
		if tt.got == tt.sent.Load() {
			defer tt.mu.Unlock()
			look(tt.emulator)
			return
		}
		tt.mu.Unlock()
		select {
		case <-tt.arrived:
		case <-deadline:
			tt.t.Fatal("what was written does not arrive at the terminal")
		}
	}
}

// shows checks what is on the screen now, with the cursor at the start of the line below.
func (tt *terminal) shows(want string) {
	tt.t.Helper()
	want = strings.TrimPrefix(want, "\n")
	tt.settled(func(e *emulator) {
		if got := e.shown(); got != want {
			tt.t.Errorf("the screen shows\n%s\nand not\n%s", got, want)
		}
		if lines := strings.Count(want, "\n"); e.x != 0 || e.y != e.top()+lines {
			tt.t.Errorf("the cursor is in column %d of row %d, below %d lines", e.x, e.y-e.top(), lines)
		}
	})
}

// environment is a getenv of these variables.
func environment(variables ...string) func(string) string {
	return func(name string) string {
		for _, v := range variables {
			if key, value, _ := strings.Cut(v, "="); key == name {
				return value
			}
		}
		return ""
	}
}
