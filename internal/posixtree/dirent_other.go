//go:build !linux

package posixtree

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

const statFlags = unix.AT_SYMLINK_NOFOLLOW

// readNames hands out what a directory holds; what each name is has to be
// looked up.
func readNames(ctx context.Context, fd int, _ []byte, add func([]byte, kind)) error {
	duplicate, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(duplicate), "directory")
	defer func() { _ = f.Close() }()
	for {
		names, err := f.Readdirnames(1024)
		for _, name := range names {
			add([]byte(name), kindUnknown)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
