//go:build !linux

package main

import "golang.org/x/sys/unix"

// harden keeps secrets out of core files.
func harden() error { return unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
