// Package posixtree counts what a directory tree holds: it is a source.Source
// over the files below one directory, or over the one figure that the file system
// keeps of it.
//
// It leaves to others where a team's tree is and what its bytes count for. What
// a byte is in a walk:
//
//   - The apparent size of regular files, with the allocated size (st_blocks of
//     512 bytes) beside it. A sparse file has more of the first, a small file of
//     the second.
//   - A file with several names (hard links) counts once, at whichever name the
//     walk meets first. Names outside the tree make no difference.
//   - Symbolic links are not followed and count nothing, not even when somebody
//     swaps one in while the walk goes on: every name is looked up by itself in
//     an open directory, never a path. The directories above the root are the
//     operator's and are resolved as usual.
//   - Directories themselves, sockets, pipes and devices count nothing, and no
//     file is ever opened.
//   - Other mounts are not entered. A mount is told by its device number; so a
//     btrfs subvolume or a ZFS dataset counts as another mount, and a bind mount
//     of the same file system as part of the tree.
//   - What vanishes during the walk is not counted, and what moves may be
//     counted at both places or at none: a tree has no snapshots.
//   - What cannot be read is told as incomplete, never taken for empty.
//
// What a byte is in a figure of the file system is its own idea. A project quota
// counts allocated blocks and inodes, those of directories included, of whatever
// belongs to the project; CephFS counts apparent sizes and files, as they were up
// to a minute ago.
//
// What always holds: a walk that was cut counts nothing twice and leaves out
// nothing that stayed as it was, because its cursor says of each directory whether
// it, or which part of its names, is left; only the goroutine that calls Step hands
// anything out, and no other is left behind when Step returns; and memory depends on
// the directories in flight, the largest directory and the files with several names
// that were met, not on the number of files.
//
// What does not hold: that two walks of one tree count in the same order. A
// directory's files come one after the other, a large directory's in parts; the
// directories come as the workers get to them.
package posixtree

import (
	"context"
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// Opener opens directory trees. It is safe for concurrent use.
type Opener struct {
	log *slog.Logger
	// workers is how many directories a walk reads side by side.
	workers int
	// maxLinks bounds how many files with several names a walk remembers.
	maxLinks int
	// stepNames is how many names are dealt with in one step, partNames how many are
	// in one part of a large directory.
	stepNames, partNames int
	// device tells mounts apart, readNames what a directory holds.
	device    func(*found) uint64
	readNames func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error
	// fileSystem is asked for sums of its own.
	fileSystem fileSystem
}

// New returns an Opener that tells log, and only log, the paths of what could
// not be read; a nil log drops them.
func New(log *slog.Logger) *Opener {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Opener{
		log: log, workers: defaultWorkers(), maxLinks: maxLinks, stepNames: stepNames, partNames: partNames,
		device: func(f *found) uint64 { return f.id.device }, readNames: readNames, fileSystem: newFileSystem(),
	}
}

// Open opens the tree t at a cursor, or at its beginning if there is none.
//
// A root that does not exist holds nothing. Any other root that is not a
// directory Purser may read is an *source.Error, and so are a cursor that was not
// made here, and a method that is wanted but not to be had. A walk that was begun
// goes on as a walk.
func (o *Opener) Open(ctx context.Context, t source.Tree, cursor []byte) (source.Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if t := finishedTotal(cursor); t != nil {
		return t, nil
	}
	s := beginning()
	if len(cursor) > 0 {
		var err error
		if s, err = decodeCursor(cursor); err != nil {
			return nil, &source.Error{ScanError: badCursor, Err: err}
		}
	}
	w := newWalk(o, t.Root, s)
	if len(s.items) > 0 {
		if err := w.openRoot(); err != nil {
			return nil, err
		}
	}
	if len(cursor) > 0 || t.Method == purser.TreeWalk || w.rootFD < 0 {
		return w, nil
	}
	sum, err := o.total(w, t.Method)
	if err == nil && sum == nil {
		return w, nil
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	return sum, nil
}

// rootError turns the reason why a root cannot be opened into words.
func rootError(root string, err error) error {
	cause := errors.New("open " + root + ": " + err.Error())
	switch {
	case exhausted(err):
		return &source.Error{ScanError: exhaustedHere, Temporary: true, Err: cause}
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return &source.Error{ScanError: rootNoDirectory, Err: cause}
	}
	return &source.Error{ScanError: rootUnreadable, Err: cause}
}

// What people are told. No path is in it: who may see a scan need not know how
// the operator's disks are laid out.
var (
	badCursor = purser.ScanError{
		Code:    source.CodeInternal,
		Message: "The place where this scan stopped could not be read back.",
		Hint:    "Start a new scan.",
	}
	rootNoDirectory = purser.ScanError{
		Code:    source.CodeUnreadable,
		Message: "The root of the tree is not a directory.",
		Hint:    "Name the directory itself in --tree, not a file and not a symbolic link to it.",
	}
	rootUnreadable = purser.ScanError{
		Code:    source.CodeUnreadable,
		Message: "The root of the tree could not be read.",
		Hint:    "Let the user that Purser runs as read and search the directory.",
	}
	exhaustedHere = purser.ScanError{
		Code:    source.CodeInternal,
		Message: "Purser has run out of open files or memory.",
		Hint:    "Raise the limits of the Purser process.",
	}
)
