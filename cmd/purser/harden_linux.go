package main

import "golang.org/x/sys/unix"

// harden keeps secrets out of core files and away from other processes of the
// same user: no core dump, no ptrace, no /proc/PID/mem.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}
