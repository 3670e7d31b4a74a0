package isolate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// HostBase is the host's user and group that user and group 0 of a pod are
// when the parent is root: the first of a range that no login has.
const HostBase = 200000

// idRange is how many users and groups a pod knows then.
const idRange = 65536

// Starter starts a process so that it dies with the parent; see PR_SET_PDEATHSIG
// in prctl(2) for why this is not exec.Cmd's own Start.
type Starter func(*exec.Cmd) error

// Pod is the namespaces that its containers share, and the agent in them.
type Pod struct {
	cmd  *exec.Cmd
	conn *net.UnixConn
	done chan struct{}

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply // started, dialed
	running map[int]*Process
	closed  error
}

type reply struct {
	packet
	files []*os.File
}

// StartPod starts a pod without containers. With hostNetwork it sees the
// machine's network, otherwise only a loopback of its own.
func StartPod(start Starter, hostname string, hostNetwork bool) (*Pod, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	theirs := os.NewFile(uintptr(fds[1]), "agent")
	defer theirs.Close()
	conn, err := unixConn(os.NewFile(uintptr(fds[0]), "parent"))
	if err != nil {
		return nil, err
	}
	p := &Pod{conn: conn, done: make(chan struct{}), waiting: map[int]chan reply{}, running: map[int]*Process{}}
	p.cmd = exec.Command("/proc/self/exe")
	p.cmd.Args = []string{"pod " + hostname}
	var complaint strings.Builder
	p.cmd.Stderr = &bounded{&complaint}
	// One thread's worth of garbage collection is plenty for an agent.
	p.cmd.Env = []string{role + "=" + roleAgent, "GOMAXPROCS=2", "GOGC=50", "HOSTNAME=" + hostname}
	p.cmd.ExtraFiles = []*os.File{theirs}
	attr := &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Setpgid:    true, // a Ctrl-C at the terminal is the parent's to handle
	}
	if !hostNetwork {
		attr.Cloneflags |= syscall.CLONE_NEWNET
		p.cmd.Env = append(p.cmd.Env, ownNetwork+"=1")
	}
	if os.Geteuid() == 0 {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: HostBase, Size: idRange}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: HostBase, Size: idRange}}
		attr.GidMappingsEnableSetgroups = true
		attr.Credential = &syscall.Credential{Uid: 0, Gid: 0}
	} else {
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		attr.Credential = &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true}
	}
	p.cmd.SysProcAttr = attr
	if err := start(p.cmd); err != nil {
		conn.Close()
		return nil, fmt.Errorf("start a process in namespaces of its own: %w", err)
	}
	ready, _, err := receive(conn)
	if err == nil && ready.Error != "" {
		err = errors.New(ready.Error)
	}
	if err != nil {
		conn.Close()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return nil, fmt.Errorf("start the pod's agent: %w %s", err, strings.TrimSpace(complaint.String()))
	}
	go p.listen()
	return p, nil
}

// ownNetwork tells the agent that its network namespace is its own.
const ownNetwork = "AMLAKS_ISOLATE_NETWORK"

// listen hands out what the agent says until it is gone.
func (p *Pod) listen() {
	var err error
	for {
		var r reply
		if r.packet, r.files, err = receive(p.conn); err != nil {
			break
		}
		p.mu.Lock()
		switch r.Op {
		case opStarted, opDialed:
			if ch := p.waiting[r.ID]; ch != nil {
				delete(p.waiting, r.ID)
				ch <- r
				r.files = nil
			}
		case opExited:
			if proc := p.running[r.ID]; proc != nil {
				delete(p.running, r.ID)
				proc.finish(r.Code, r.Signal)
			}
		}
		p.mu.Unlock()
		closeAll(r.files)
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.mu.Lock()
	p.closed = fmt.Errorf("the pod has ended: %w", err)
	for id, ch := range p.waiting {
		delete(p.waiting, id)
		ch <- reply{packet: packet{Error: p.closed.Error()}}
	}
	for id, proc := range p.running {
		delete(p.running, id)
		proc.finish(0, int(syscall.SIGKILL))
	}
	p.mu.Unlock()
	close(p.done)
}

// ask sends a packet and gives the channel of its reply. proc, if any, is
// registered under the packet's ID before that.
func (p *Pod) ask(m packet, proc *Process, files ...*os.File) (int, chan reply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return 0, nil, p.closed
	}
	p.next++
	m.ID = p.next
	ch := make(chan reply, 1)
	p.waiting[m.ID] = ch
	if proc != nil {
		proc.id = m.ID
		p.running[m.ID] = proc
	}
	if err := send(p.conn, m, files...); err != nil {
		delete(p.waiting, m.ID)
		delete(p.running, m.ID)
		return 0, nil, err
	}
	return m.ID, ch, nil
}

// Run starts a container, with its output going to the two files. An error
// says which step failed, in words for the pod's status.
func (p *Pod) Run(c Container, stdout, stderr *os.File) (*Process, error) {
	proc := &Process{pod: p, done: make(chan struct{})}
	m := packet{Op: opRun}
	files := []*os.File{nil, stdout, stderr}
	if os.Geteuid() == 0 {
		// The container is not root and may not even see the folders above its
		// files; it is handed the mounts ready made.
		var trees []*os.File
		defer func() { closeAll(trees) }()
		for _, path := range append([]string{c.Rootfs}, sources(c.Mounts)...) {
			fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
			if err != nil {
				return nil, fmt.Errorf("open_tree %s: %w", path, err)
			}
			trees = append(trees, os.NewFile(uintptr(fd), path))
		}
		files = append(files, trees...)
	} else {
		c.Groups = nil // an ordinary user can give no group but its own
		if c.UID != 0 || c.GID != 0 {
			// The pod knows one user, 0. Another one takes another user namespace.
			m.Nested = &ids{c.UID, c.GID}
		}
	}
	body, err := json.Marshal(spec{c, os.Geteuid() == 0})
	if err != nil {
		return nil, err
	}
	if files[0], err = memoryFile(body); err != nil {
		return nil, err
	}
	defer files[0].Close()
	_, ch, err := p.ask(m, proc, files...)
	if err != nil {
		return nil, err
	}
	r := <-ch
	if r.Error != "" {
		p.mu.Lock()
		delete(p.running, proc.id)
		p.mu.Unlock()
		return nil, errors.New(r.Error)
	}
	proc.PID = r.PID
	return proc, nil
}

func sources(mounts []Mount) []string {
	var out []string
	for _, m := range mounts {
		out = append(out, m.Source)
	}
	return out
}

// Dial connects to an address inside the pod's network.
func (p *Pod) Dial(ctx context.Context, address string) (net.Conn, error) {
	id, ch, err := p.ask(packet{Op: opDial, Address: address}, nil)
	if err != nil {
		return nil, err
	}
	select {
	case r := <-ch:
		defer closeAll(r.files)
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		if len(r.files) != 1 {
			return nil, errors.New("the pod's agent gave no connection")
		}
		return net.FileConn(r.files[0])
	case <-ctx.Done():
		p.mu.Lock()
		delete(p.waiting, id)
		p.mu.Unlock()
		select { // it may have come just before
		case r := <-ch:
			closeAll(r.files)
		default:
		}
		return nil, ctx.Err()
	}
}

// Close ends all of the pod's processes and returns when they are gone.
func (p *Pod) Close() {
	p.conn.Close()
	<-p.done
}

// Done is closed when the pod's agent is gone, and with it its containers.
func (p *Pod) Done() <-chan struct{} { return p.done }

// Process is a container that was started.
type Process struct {
	// PID is the container's on the host.
	PID int

	pod  *Pod
	id   int
	done chan struct{}
	code int
}

// Done is closed when the container has ended; then ExitCode is right.
func (p *Process) Done() <-chan struct{} { return p.done }

// ExitCode is the program's, or 128 plus the signal that ended it.
func (p *Process) ExitCode() int { return p.code }

func (p *Process) finish(code, signal int) {
	if signal != 0 {
		code = 128 + signal
	}
	p.code = code
	close(p.done)
}

// Signal sends the container's first process a signal; SIGKILL ends all of them.
func (p *Process) Signal(s syscall.Signal) {
	p.pod.mu.Lock()
	defer p.pod.mu.Unlock()
	// A pod that is gone needs no signal.
	_ = send(p.pod.conn, packet{Op: opSignal, ID: p.id, Signal: int(s)})
}

// bounded keeps the first part of what an agent says as it fails.
type bounded struct{ to *strings.Builder }

func (b *bounded) Write(body []byte) (int, error) {
	if room := 2048 - b.to.Len(); room > 0 {
		b.to.Write(body[:min(room, len(body))])
	}
	return len(body), nil
}
