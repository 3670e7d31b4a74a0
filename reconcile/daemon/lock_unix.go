//go:build unix

package daemon

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the file's lock, if nobody has it. It ends with the process at the latest.
func tryLock(f *os.File) (ok bool, err error) {
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
