package posixtree

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// statWorkers look at files side by side. More than there are processors: on a
	// cold disk or over a network they mostly wait, and the store answers many
	// questions in the time of one.
	statWorkers = 16
	// statShare is how many files make another worker worth its start.
	statShare = 64
)

// batch looks at many files of one directory at once.
type batch struct {
	index []int   // numbers in the directory's names
	found []found // what is there, in the same order
}

// found is what is known about a file.
type found struct {
	err          error
	mode         uint32
	names        uint64 // how many it has: st_nlink
	id           fileID
	size, blocks int64
}

// fill chooses the next names of d that may be files, at most limit.
func (b *batch) fill(d *dir, limit int) {
	b.index = b.index[:0]
	for i := d.next; i < len(d.names.list) && len(b.index) < limit; i++ {
		if k := d.names.list[i].kind; k == kindFile || k == kindUnknown {
			b.index = append(b.index, i)
		}
	}
}

// stat fills b.found. It returns ctx's error only; a file's error is with the
// file.
func (b *batch) stat(ctx context.Context, fd int, n *names) error {
	if cap(b.found) < len(b.index) {
		b.found = make([]found, len(b.index))
	}
	b.found = b.found[:len(b.index)]
	workers := min(statWorkers, max(1, len(b.index)/statShare))
	share := (len(b.index) + workers - 1) / workers
	var wait sync.WaitGroup
	for start := share; start < len(b.index); start += share {
		wait.Go(func() { b.statRange(ctx, fd, n, start, min(start+share, len(b.index))) })
	}
	b.statRange(ctx, fd, n, 0, min(share, len(b.index)))
	wait.Wait()
	return ctx.Err()
}

func (b *batch) statRange(ctx context.Context, fd int, n *names, from, to int) {
	for i := from; i < to && ctx.Err() == nil; i++ {
		b.found[i] = look(fd, string(n.at(b.index[i])))
	}
}

func look(fd int, name string) found {
	st, err := fstatat(fd, name)
	if err != nil {
		return found{err: err}
	}
	//nolint:unconvert // the types differ between systems; the bits are kept
	return found{
		mode:   uint32(st.Mode),
		names:  uint64(st.Nlink),
		id:     fileID{device: uint64(st.Dev), inode: uint64(st.Ino)},
		size:   int64(st.Size),
		blocks: int64(st.Blocks),
	}
}

// deviceOf is the file system that something is on.
func deviceOf(st *unix.Stat_t) uint64 {
	return uint64(st.Dev) //nolint:unconvert // the types differ between systems; the bits are kept
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

func fstatat(parent int, name string) (st unix.Stat_t, err error) {
	for {
		err = unix.Fstatat(parent, name, &st, statFlags)
		if err != unix.EINTR {
			return st, err
		}
	}
}

func fstat(fd int) (st unix.Stat_t, err error) {
	for {
		err = unix.Fstat(fd, &st)
		if err != unix.EINTR {
			return st, err
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
