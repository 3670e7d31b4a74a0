package isolate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout is for a dial within one machine: the listener is there or not.
const dialTimeout = 5 * time.Second

// agent is the process that holds a pod's namespaces.
type agent struct {
	conn *net.UnixConn

	mu      sync.Mutex
	running map[int]*os.Process
}

// agentMain is the whole life of an agent; it ends when the parent's end of
// the socket is closed.
func agentMain() int {
	// Containers die with the thread that started them: this one, the main
	// thread, lives as long as the process.
	runtime.LockOSThread()
	conn, err := unixConn(os.NewFile(3, "parent"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ready := packet{Op: opReady}
	if err := setUp(); err != nil {
		ready.Error = err.Error()
	}
	if err := send(conn, ready); err != nil || ready.Error != "" {
		return 1
	}
	a := &agent{conn: conn, running: map[int]*os.Process{}}
	for {
		p, files, err := receive(conn)
		if err != nil {
			return 0
		}
		switch p.Op {
		case opRun:
			a.run(p, files)
		case opSignal:
			a.mu.Lock()
			if proc := a.running[p.ID]; proc != nil {
				_ = proc.Signal(syscall.Signal(p.Signal))
			}
			a.mu.Unlock()
		case opDial:
			go a.dial(p)
		}
		closeAll(files)
	}
}

// setUp makes the new namespaces usable.
func setUp() error {
	if err := unix.Sethostname([]byte(os.Getenv("HOSTNAME"))); err != nil {
		return fmt.Errorf("set the pod's host name: %w", err)
	}
	if os.Getenv(ownNetwork) == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING | unix.IFF_LOOPBACK)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring the pod's loopback up: %w", err)
	}
	// As container runtimes do: nobody else is in this network, so any port is
	// free for any user. Kernels that forbid it leave 80 to root.
	_ = os.WriteFile("/proc/sys/net/ipv4/ip_unprivileged_port_start", []byte("0"), 0)
	return nil
}

// The files a container process starts with, after standard input and output.
const (
	specFD   = 3
	statusFD = 4
	treesFD  = 5
)

// run starts the container whose files were sent, and says how it went.
func (a *agent) run(p packet, files []*os.File) {
	answer := packet{Op: opStarted, ID: p.ID}
	cmd, err := a.start(p, files)
	if err != nil {
		answer.Error = err.Error()
	} else {
		answer.PID = cmd.Process.Pid
	}
	_ = send(a.conn, answer)
	if err != nil {
		return
	}
	a.mu.Lock()
	a.running[p.ID] = cmd.Process
	a.mu.Unlock()
	go func() {
		_ = cmd.Wait() // the state says more
		a.mu.Lock()
		delete(a.running, p.ID)
		a.mu.Unlock()
		out := packet{Op: opExited, ID: p.ID, Code: cmd.ProcessState.ExitCode()}
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			out.Code, out.Signal = 0, int(ws.Signal())
		}
		_ = send(a.conn, out)
	}()
}

func (a *agent) start(p packet, files []*os.File) (*exec.Cmd, error) {
	if len(files) < 3 {
		return nil, errors.New("a container without output")
	}
	status, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer status.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"container"}
	cmd.Env = []string{role + "=" + roleContainer, "GOMAXPROCS=1"}
	cmd.Stdout, cmd.Stderr = files[1], files[2]
	cmd.ExtraFiles = append([]*os.File{files[0], theirs}, files[3:]...)
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
		Setsid:     true,
	}
	if p.Nested != nil {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: p.Nested.UID, HostID: 0, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: p.Nested.GID, HostID: 0, Size: 1}}
		attr.Credential = &syscall.Credential{Uid: uint32(p.Nested.UID), Gid: uint32(p.Nested.GID), NoSetGroups: true}
		// A user other than 0 keeps no capability over exec but the ambient ones.
		attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_DAC_OVERRIDE}
	}
	cmd.SysProcAttr = attr
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("start a process in mount and PID namespaces of its own: %w", err)
	}
	// Closed without a word when the program itself has been started.
	said, err := io.ReadAll(io.LimitReader(status, 4096))
	if err == nil && len(said) > 0 {
		err = errors.New(string(said))
	}
	if err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	return cmd, nil
}

func (a *agent) dial(p packet) {
	answer := packet{Op: opDialed, ID: p.ID}
	file, err := dialFile(p.Address)
	if err != nil {
		answer.Error = err.Error()
		_ = send(a.conn, answer)
		return
	}
	defer file.Close()
	_ = send(a.conn, answer, file)
}

func dialFile(address string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp4", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.(*net.TCPConn).File()
}
