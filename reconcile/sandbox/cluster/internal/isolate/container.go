package isolate

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// writableSize bounds what a container may write outside its volumes; it is memory.
const writableSize = "256m"

// staging is a folder that every Linux has; in the container's own mount
// namespace its root is put together on top of it.
const staging = "/tmp"

// containerMain makes the container's root, gives up every privilege and
// becomes the program.
func containerMain() {
	// Capabilities, ids and exec belong to one thread.
	runtime.LockOSThread()
	status := os.NewFile(statusFD, "status")
	unix.CloseOnExec(statusFD)
	err := becomeContainer()
	fmt.Fprint(status, err)
	os.Exit(127)
}

func becomeContainer() error {
	file := os.NewFile(specFD, "spec")
	body, err := io.ReadAll(io.LimitReader(file, 16<<20))
	file.Close()
	if err != nil {
		return err
	}
	var given spec
	if err := json.Unmarshal(body, &given); err != nil {
		return err
	}
	c := given.Container
	var trees []int // of the root file system and the mounts, where the parent is root
	if given.Handed {
		for i := range 1 + len(c.Mounts) {
			trees = append(trees, treesFD+i)
		}
	}
	if err := makeRoot(c, trees); err != nil {
		return err
	}
	program, err := find(c)
	if err != nil {
		return err
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	if err := unix.Chdir(dir); err != nil {
		return fmt.Errorf("working folder %s: %w", dir, err)
	}
	if err := giveUp(c); err != nil {
		return err
	}
	for fd := treesFD; fd < treesFD+len(trees); fd++ {
		unix.Close(fd)
	}
	return fmt.Errorf("exec %s: %w", program, unix.Exec(program, c.Args, c.Env))
}

// tree is a mount to be attached: handed over ready made, or opened by path
// (before anything covers that path).
type tree struct {
	fd   int
	made bool
}

func (t tree) attach(target string) error {
	if t.made {
		return unix.MoveMount(t.fd, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", t.fd), target, "", unix.MS_BIND|unix.MS_REC, "")
}

func makeRoot(c Container, handed []int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	var trees []tree
	for i, path := range append([]string{c.Rootfs}, sources(c.Mounts)...) {
		if i < len(handed) {
			trees = append(trees, tree{handed[i], true})
			continue
		}
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		trees = append(trees, tree{fd, false})
	}
	if err := unix.Mount("tmpfs", staging, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size="+writableSize); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	lower, upper, work, root := staging+"/lower", staging+"/upper", staging+"/work", staging+"/root"
	for _, d := range []string{lower, upper, work, root} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := trees[0].attach(lower); err != nil {
		return fmt.Errorf("attach the image: %w", err)
	}
	if err := unix.Mount("overlay", root, "overlay", unix.MS_NOSUID|unix.MS_NODEV,
		"userxattr,lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		return fmt.Errorf("mount overlay (needs Linux 5.11): %w", err)
	}
	// Volumes are mounted after the pivot, when links in the image can no
	// longer lead out of it. Until then the old root has a name no image can know.
	old := "/.old-" + rand.Text()
	if err := os.Mkdir(root+old, 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(root+"/proc", 0o555); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	procErr := unix.Mount("proc", root+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if procErr != nil {
		// Inside other containers a new /proc is refused; the machine's own shows
		// a process itself as well.
		if err := unix.Mount("/proc", root+"/proc", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount proc: %w", procErr)
		}
	}
	if err := unix.PivotRoot(root, root+old); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := makeDev(old); err != nil {
		return err
	}
	if err := writeHosts(c); err != nil {
		return err
	}
	for i, m := range c.Mounts {
		if err := mountVolume(m, trees[1+i]); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	if err := unix.Unmount(old, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := os.Remove(old); err != nil {
		return err
	}
	if c.ReadOnly {
		if err := readOnly("/", 0); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// readOnly adds the flag and keeps the others, some of which are locked here.
func readOnly(target string, flags uint) error {
	return unix.MountSetattr(unix.AT_FDCWD, target, flags, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

func mountVolume(m Mount, t tree) error {
	var st unix.Stat_t
	if err := unix.Fstat(t.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := os.MkdirAll(m.Target, 0o755); err != nil {
			return err
		}
	} else if err := touch(m.Target); err != nil {
		return err
	}
	if err := t.attach(m.Target); err != nil {
		return err
	}
	if m.ReadOnly {
		return readOnly(m.Target, unix.AT_RECURSIVE)
	}
	return nil
}

func touch(name string) error {
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, nil, 0o644)
}

// makeDev gives what programs may count on and no device more.
func makeDev(old string) error {
	if err := os.MkdirAll("/dev", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev", "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		if err := touch("/dev/" + name); err != nil {
			return err
		}
		if err := unix.Mount(old+"/dev/"+name, "/dev/"+name, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount /dev/%s: %w", name, err)
		}
	}
	for name, target := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, "/dev/"+name); err != nil {
			return err
		}
	}
	if err := os.Mkdir("/dev/shm", 0o1777); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
		return fmt.Errorf("mount /dev/shm: %w", err)
	}
	return readOnly("/dev", 0)
}

func writeHosts(c Container) error {
	if c.Hosts == "" {
		return nil
	}
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	// A link in the image is replaced, not followed.
	if err := os.Remove("/etc/hosts"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.WriteFile("/etc/hosts", []byte(c.Hosts), 0o644)
}

// find looks the program up in the container's PATH.
func find(c Container) (string, error) {
	if len(c.Args) == 0 {
		return "", errors.New("no command: neither the image nor the container names one")
	}
	name := c.Args[0]
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range c.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if fi, err := os.Stat(file); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("exec: %q: executable file not found in $PATH", name)
}

// giveUp drops what the setting up needed.
func giveUp(c Container) error {
	for capability := uintptr(0); capability < 64; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
			if errors.Is(err, unix.EINVAL) && capability > 0 {
				break // the last one there is
			}
			return fmt.Errorf("drop capability %d: %w", capability, err)
		}
	}
	// The raw calls change this thread only, which is the one that execs.
	if os.Getuid() != c.UID || os.Getgid() != c.GID || len(c.Groups) > 0 {
		groups := make([]uint32, len(c.Groups)+1)
		groups[0] = uint32(c.GID)
		for i, g := range c.Groups {
			groups[1+i] = uint32(g)
		}
		if err := setIDs(c.UID, c.GID, groups); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// A change of ids has cleared it.
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0, 0, 0)
}
