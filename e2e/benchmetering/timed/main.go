// Command timed runs a command and writes to file descriptor 3, as JSON, what it
// took. Its exit code is the command's.
//
// It exists because it is small: the kernel counts what a process had in memory
// when it was forked to the memory of what it becomes, so that a benchmark cannot
// be the parent of what it measures.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// used is also in the benchmark that reads it.
type used struct {
	Wall, User, Sys time.Duration
	MaxRSS          int64 // bytes
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(127)
	}
}

// run ends the process with the command's exit code, unless something else fails.
func run() error {
	runtime.LockOSThread() // the death of this thread is what ends the child
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	begin := time.Now()
	if err := cmd.Run(); cmd.ProcessState == nil {
		return err // it did not start
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	result := used{time.Since(begin), cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime(), usage.Maxrss << 10}
	if err := json.NewEncoder(os.NewFile(3, "result")).Encode(result); err != nil {
		return err
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		os.Exit(max(1, code)) // -1 is a signal
	}
	return nil
}
