package model

import "syscall"

// changed is when an inode last changed, in nanoseconds since 1970.
func changed(stat *syscall.Stat_t) int64 { return stat.Ctimespec.Nano() }
