//go:build !linux

package posixtree

import (
	"context"
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// look tells what a name in a directory is. Symbolic links stand for themselves.
func look(fd int, name []byte, f *found) error {
	var st unix.Stat_t
	return f.fill(&st, func() error { return unix.Fstatat(fd, string(name), &st, unix.AT_SYMLINK_NOFOLLOW) })
}

// lookAt tells what is open at fd.
func lookAt(fd int, f *found) error {
	var st unix.Stat_t
	return f.fill(&st, func() error { return unix.Fstat(fd, &st) })
}

func (f *found) fill(st *unix.Stat_t, ask func() error) error {
	for {
		err := ask()
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return err
		}
	}
	//nolint:unconvert // the types differ between systems; the bits are kept
	*f = found{
		mode:   uint32(st.Mode),
		names:  uint64(st.Nlink),
		id:     fileID{device: uint64(st.Dev), inode: uint64(st.Ino)},
		size:   int64(st.Size),
		blocks: int64(st.Blocks),
	}
	return nil
}

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
