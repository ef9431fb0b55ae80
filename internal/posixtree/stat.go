package posixtree

import (
	"errors"

	"golang.org/x/sys/unix"
)

// found is what is known about a file.
type found struct {
	mode         uint32
	names        uint64 // how many it has: st_nlink
	id           fileID
	size, blocks int64
}

// openat opens a directory, and nothing but a directory: O_NOFOLLOW refuses a
// symbolic link that was swapped in for it, O_DIRECTORY a pipe that would block.
func openat(parent int, name string) (int, error) {
	for {
		fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// vanished reports that a name means nothing any more, or something else: it
// was removed, or replaced by a file or a symbolic link.
func vanished(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// exhausted reports that the fault is on our side, so that it says nothing about
// the tree.
func exhausted(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}
