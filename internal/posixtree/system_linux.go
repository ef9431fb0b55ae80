package posixtree

import (
	"bytes"
	"context"
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// look tells what a name in a directory is. It takes the name where it lies, with
// a zero byte behind it, because to copy a million of them is a twentieth of all
// work. Symbolic links stand for themselves, and looking at a directory does not
// make the kernel mount something there.
func look(fd int, name []byte, f *found) error {
	return statx(fd, &name[0], unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, f)
}

// lookAt tells what is open at fd.
func lookAt(fd int, f *found) error {
	var none byte
	return statx(fd, &none, unix.AT_EMPTY_PATH, f)
}

func statx(fd int, name *byte, flags uintptr, f *found) error {
	const wanted = unix.STATX_TYPE | unix.STATX_NLINK | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_BLOCKS
	var st unix.Statx_t
	for {
		//nolint:gosec // a zero byte ends the name, and st is what statx(2) fills
		_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(name)), flags, wanted, uintptr(unsafe.Pointer(&st)), 0)
		if errno == 0 {
			break
		}
		if errno != unix.EINTR {
			return errno
		}
	}
	*f = found{
		mode: uint32(st.Mode), names: uint64(st.Nlink), size: int64(st.Size), blocks: int64(st.Blocks), //nolint:gosec // both are signed in the kernel
		id: fileID{device: unix.Mkdev(st.Dev_major, st.Dev_minor), inode: st.Ino},
	}
	return nil
}

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
