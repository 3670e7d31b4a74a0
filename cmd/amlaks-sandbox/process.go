package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

const pollInterval = 100 * time.Millisecond

// process is one that `up` has started. The kernel gives a number again after a process has
// ended; number and start time together are its own for ever.
type process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // in clock ticks since boot, with the boot's ID
}

// identify reads a process's start time; fs.ErrNotExist when there is no such process.
func identify(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The name, in parentheses, may hold spaces: fields count from behind it (proc(5)).
	_, rest, _ := strings.Cut(string(stat[max(strings.LastIndexByte(string(stat), ')'), 0):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return process{}, fmt.Errorf("read /proc/%d/stat: too short", pid)
	}
	if fields[0] == "Z" {
		return process{}, fs.ErrNotExist // ended, and waits for its parent
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Started: fields[19] + "@" + strings.TrimSpace(string(boot))}, nil
}

// alive tells whether it is still the same process.
func (p process) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p
}

// recorded is the process that `up` wrote down; false when none was or it has ended.
func (f *folder) recorded() (process, bool) {
	var p process
	content, err := os.ReadFile(f.path("process.json"))
	if err != nil || json.Unmarshal(content, &p) != nil || p.PID <= 0 {
		return process{}, false
	}
	return p, p.alive()
}

func (f *folder) record(p process) error {
	content, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return os.WriteFile(f.path("process.json"), content, 0o600)
}

// end sends a signal and waits for the process to be gone; false when it is not in time.
func (p process) end(ctx context.Context, signal syscall.Signal, patience time.Duration) (bool, error) {
	if !p.alive() {
		return true, nil
	}
	if err := syscall.Kill(p.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("end process %d: %w", p.PID, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for p.alive() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false, nil
		}
	}
	return true, nil
}
