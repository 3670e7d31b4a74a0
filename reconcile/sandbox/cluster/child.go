package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// A spawner starts processes that die with this one. The kernel sends a
// parent death signal when the *thread* that started the child ends (prctl(2),
// PR_SET_PDEATHSIG), and Go ends idle threads; so one thread, kept for nothing
// else, starts them all.
type spawner struct {
	starts chan func()
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan func())}
	go func() {
		// Never unlocked: when the goroutine ends, so does its thread, and
		// whatever it started.
		runtime.LockOSThread()
		for f := range s.starts {
			f()
		}
	}()
	return s
}

// start is cmd.Start with the parent death signal set.
func (s *spawner) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	done := make(chan error, 1)
	s.starts <- func() { done <- cmd.Start() }
	return <-done
}

func (s *spawner) close() { close(s.starts) }

// maxComponentLog bounds each component's log file; at a restart of the
// component a longer one is begun anew.
const maxComponentLog = 16 << 20

// Restarts of a component that ends: at once, then slower.
const (
	firstRestart = 200 * time.Millisecond
	lastRestart  = 10 * time.Second
	steadyAfter  = 30 * time.Second
)

// component is one process of the control plane, started again when it ends.
type component struct {
	name    string
	command []string
	dir     string // of the logs
	env     []string
	kills   chan chan struct{} // asks for an end of the process; closed when it is no more
	done    chan struct{}
}

// run keeps the component running until ctx is done, then ends it.
func (c *component) run(ctx context.Context, s *spawner, logf func(string, ...any)) {
	defer close(c.done)
	wait := firstRestart
	for ctx.Err() == nil {
		began := time.Now()
		err := c.once(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steadyAfter {
			wait = firstRestart
		}
		logf("%s ended (%v), starting it again in %s; its log is %s", c.name, err, wait, c.log())
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRestart)
	}
}

// kill ends the process as a crash does, and returns when it is no more.
func (c *component) kill(ctx context.Context) error {
	killed := make(chan struct{})
	select {
	case c.kills <- killed:
		<-killed
		return nil
	case <-c.done:
		return fmt.Errorf("%s has been stopped", c.name)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *component) log() string { return filepath.Join(c.dir, c.name+".log") }

func (c *component) once(ctx context.Context, s *spawner) error {
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if fi, err := os.Stat(c.log()); err == nil && fi.Size() > maxComponentLog {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(c.log(), flags, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), c.env...)
	// A process group of its own: Ctrl-C at the terminal is the sandbox's to
	// handle, which ends the components in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.start(cmd); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err == nil {
			err = errors.New("exit status 0")
		}
		return err
	case killed := <-c.kills:
		_ = cmd.Process.Kill() // it has ended by itself
		defer close(killed)
		return <-ended
	case <-ctx.Done():
	}
	// All of them are made to be killed; etcd alone is asked first, as it then
	// has less to replay.
	if c.name == "etcd" {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return nil
		case <-time.After(2 * time.Second):
		}
	}
	_ = cmd.Process.Kill()
	<-ended
	return nil
}
