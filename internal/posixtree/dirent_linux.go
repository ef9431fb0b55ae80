package posixtree

import (
	"bytes"
	"context"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// statFlags: symbolic links stand for themselves, and looking at a directory
// does not make the kernel mount something there.
const statFlags = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT

// readNames hands out what a directory holds, with the kinds that the file
// system tells along with the names. os.File.ReadDir would ask for unknown kinds
// by path, which must not be resolved again.
//
// The kernel fills the buffer with records (linux_dirent64, getdents64(2)):
//
//	inode   8 bytes
//	offset  8 bytes
//	length  2 bytes, of the record
//	type    1 byte
//	name    zero-terminated, padded
func readNames(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error {
	const head = 8 + 8 + 2 + 1
	for {
		n, err := unix.Getdents(fd, buffer)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == unix.EINTR:
			continue
		case err != nil || n <= 0:
			return err
		}
		for rest := buffer[:n]; len(rest) >= head; {
			record := rest[:binary.NativeEndian.Uint16(rest[16:])]
			rest = rest[len(record):]
			name, _, _ := bytes.Cut(record[head:], []byte{0})
			if string(name) != "." && string(name) != ".." {
				add(name, kindOf(record[18]))
			}
		}
	}
}

func kindOf(direntType byte) kind {
	switch direntType {
	case unix.DT_UNKNOWN:
		return kindUnknown
	case unix.DT_REG:
		return kindFile
	case unix.DT_DIR:
		return kindDirectory
	}
	return kindOther
}
