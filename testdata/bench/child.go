package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// usage is what one process took.
type usage struct {
	answer
	wall   time.Duration
	cpu    time.Duration // user and system
	memory int64         // bytes, at most
	code   int
	stdout []byte
	stderr []byte
}

func (u usage) seconds() float64    { return u.wall.Seconds() }
func (u usage) cpuSeconds() float64 { return u.cpu.Seconds() }
func (u usage) mebibytes() float64  { return float64(u.memory) / (1 << 20) }

// childTimeout bounds every measured process.
const childTimeout = 15 * time.Minute

// measure runs a process to its end. Exit codes in allowed are no error: diffs have their own.
func measure(ctx context.Context, allowed []int, environment []string, name string, args ...string) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, childTimeout)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, append(os.Environ(), environment...)
	began := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(began), stdout: stdout.Bytes(), stderr: stderr.Bytes()}
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && slices.Contains(allowed, exit.ExitCode())) {
		return u, fmt.Errorf("%s: %w\n%s", name, err, last(stderr.Bytes(), 2000))
	}
	u.code = cmd.ProcessState.ExitCode()
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	if rusage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.memory = rusage.Maxrss << 10 // Linux counts KiB
	}
	return u, nil
}

// told is a process that prints an answer about itself.
func told(ctx context.Context, name string, args ...string) (usage, error) {
	u, err := measure(ctx, nil, nil, name, args...)
	if err != nil {
		return u, err
	}
	if err := json.Unmarshal(u.stdout, &u.answer); err != nil {
		return u, fmt.Errorf("%s %s: %w", name, args[0], err)
	}
	return u, nil
}

func last(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

// repeat measures several times and gives the run in the middle by wall time.
func repeat(runs int, once func() (usage, error)) (usage, error) {
	all := make([]usage, runs)
	for i := range all {
		var err error
		if all[i], err = once(); err != nil {
			return usage{}, err
		}
	}
	slices.SortFunc(all, func(a, b usage) int { return int(a.wall - b.wall) })
	return all[len(all)/2], nil
}
