// Package isolate runs the containers of a pod as processes that see nothing
// of the machine: own user, mount, PID, IPC, UTS and (unless asked otherwise)
// network namespaces, no capability, no new privileges, and an identity that
// is nobody's on the host. It needs no root, no daemon and no file but the
// executable itself, which it starts again as the pod's agent and as the
// container's first steps: programs that use it call Main before all else.
//
//	parent -- starts --> agent of the pod (user, network, IPC, UTS namespaces)
//	                       -- starts --> container (mount, PID namespaces)
//
// Parent and agent talk over a socket pair: packets of JSON with open files
// beside them. When the parent dies, however it dies, so do all agents and
// with them all containers.
//
// What it needs of the kernel: unprivileged user namespaces, and overlayfs in
// them (Linux 5.12). Check says whether they are there.
package isolate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// role is the environment variable by which a process knows that it was
// started by this package, and as what.
const (
	role          = "AMLAKS_ISOLATE"
	roleAgent     = "agent"
	roleContainer = "container"
)

// Main returns at once in an ordinary process. In one that this package
// started it does that process's work and never returns. Call it first in
// main, and in TestMain of tests.
func Main() {
	switch os.Getenv(role) {
	case roleAgent:
		os.Unsetenv(role)
		os.Exit(agentMain())
	case roleContainer:
		os.Unsetenv(role)
		containerMain()
	}
}

// Container is what is run in a pod.
type Container struct {
	// Rootfs is the folder of the image's files. It is never written to:
	// what the container writes goes to memory and is gone with it.
	Rootfs   string  `json:"rootfs"`
	ReadOnly bool    `json:"readOnly"` // nothing but mounts can be written to
	Mounts   []Mount `json:"mounts"`
	Hosts    string  `json:"hosts"` // content of /etc/hosts

	// Args are the program and its arguments; the program is looked for in PATH of Env.
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"` // "" is /

	UID    int   `json:"uid"` // in the container
	GID    int   `json:"gid"`
	Groups []int `json:"groups"` // only where the parent is root
}

// Mount shows the file or folder Source as Target.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly"`
}

// spec is what a container's process is told.
type spec struct {
	Container
	// Handed says that the root file system and the mounts come as open files.
	Handed bool `json:"handed"`
}

// packet is what parent and agent send each other.
type packet struct {
	Op      string `json:"op"`
	ID      int    `json:"id"`
	Address string `json:"address,omitempty"`
	Signal  int    `json:"signal,omitempty"`
	Code    int    `json:"code,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Nested  *ids   `json:"nested,omitempty"`
	Error   string `json:"error,omitempty"`
}

type ids struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

const (
	opReady   = "ready"   // agent: the namespaces are set up
	opRun     = "run"     // parent: files are the spec, stdout, stderr and the mounts
	opStarted = "started" // agent: PID, or Error
	opExited  = "exited"  // agent: Code, or Signal
	opSignal  = "signal"
	opDial    = "dial"
	opDialed  = "dialed" // agent: the connection as a file, or Error
)

// maxPacket is more than any packet has; what is long goes by file.
const (
	maxPacket = 64 << 10
	maxFiles  = 128
)

func send(conn *net.UnixConn, p packet, files ...*os.File) error {
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(body, rights, nil)
	return err
}

func receive(conn *net.UnixConn) (packet, []*os.File, error) {
	var p packet
	body := make([]byte, maxPacket)
	oob := make([]byte, syscall.CmsgSpace(4*maxFiles))
	// Files are closed in children that others start meanwhile: Go sets
	// MSG_CMSG_CLOEXEC.
	n, oobn, _, _, err := conn.ReadMsgUnix(body, oob)
	if err != nil {
		return p, nil, err
	}
	if n == 0 {
		return p, nil, net.ErrClosed
	}
	var files []*os.File
	messages, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return p, nil, err
	}
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return p, nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return p, files, json.Unmarshal(body[:n], &p)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a unix socket")
	}
	return u, nil
}

// memoryFile holds body in memory, for a process that reads it.
func memoryFile(body []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("spec", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "spec")
	if _, err := f.Write(body); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.Seek(0, 0)
	return f, err
}
