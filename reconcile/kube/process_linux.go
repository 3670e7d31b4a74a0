package kube

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// processMark tells this process from every other one, on this machine and elsewhere, now and
// after a restart: BOOT.PIDNAMESPACE.PID.STARTTIME.
func processMark() string {
	started, _ := startTime(os.Getpid())
	return fmt.Sprintf("%s.%d.%s", machineMark(), os.Getpid(), started)
}

// isGone tells whether the holder was a process of this machine that is not there any more.
func isGone(holder string) bool {
	_, mark, ok := strings.Cut(holder, leaseMarker)
	rest, here := strings.CutPrefix(mark, machineMark()+".")
	if !ok || !here {
		return false
	}
	var pid int
	var started string
	if _, err := fmt.Sscanf(strings.Replace(rest, ".", " ", 1), "%d %s", &pid, &started); err != nil {
		return false
	}
	now, err := startTime(pid)
	return errors.Is(err, fs.ErrNotExist) || err == nil && now != started
}

// machineMark is that of a boot of a machine and, in it, of a space of process numbers
// (a container has its own).
func machineMark() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(boot)) + "." + strings.Trim(strings.TrimPrefix(space, "pid:"), "[]")
}

// startTime is the 22nd field of /proc/PID/stat (proc(5)); the second may hold spaces. A
// process that has ended and was not waited for (a zombie) is not there any more.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fs.ErrNotExist
	}
	return fields[19], nil
}
