package isolate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// Check says whether this machine lets the user run pods, and if not, what to
// set. dir is a folder that it may put an empty folder into.
func Check(start Starter, dir string) error {
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 && exe.Mode().Perm()&0o005 != 0o005 {
		return errors.New("pods run as another user than root, from this program's own file: make it readable and executable for all (chmod a+rx)")
	}
	pod, err := StartPod(start, "check", false)
	if err != nil {
		return fmt.Errorf("%w%s", err, hint(err))
	}
	defer pod.Close()
	empty, err := os.MkdirTemp(dir, "check-")
	if err != nil {
		return err
	}
	defer os.Remove(empty)
	if err := os.Chmod(empty, 0o755); err != nil {
		return err
	}
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	// All steps up to the program, which is not there.
	_, err = pod.Run(Container{Rootfs: empty, ReadOnly: true, Args: []string{"/none"}, UID: 1, GID: 1}, null, null)
	if err == nil || strings.HasPrefix(err.Error(), "exec /none:") {
		return nil
	}
	return fmt.Errorf("run a process in namespaces of its own: %w%s", err, hint(err))
}

// hint names the switch that is likely to be off.
func hint(err error) string {
	read := func(name string) string {
		body, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(body))
	}
	switch {
	case read("user.max_user_namespaces") == "0" || errors.Is(err, syscall.ENOSPC):
		return "\nuser namespaces are off: sysctl user.max_user_namespaces=10000"
	case read("kernel.unprivileged_userns_clone") == "0":
		return "\nunprivileged user namespaces are off: sysctl kernel.unprivileged_userns_clone=1"
	case read("kernel.apparmor_restrict_unprivileged_userns") == "1":
		return "\nAppArmor restricts unprivileged user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
	case errors.Is(err, fs.ErrPermission):
		return "\nuser namespaces are refused, as inside a container whose seccomp profile forbids them"
	}
	return ""
}
