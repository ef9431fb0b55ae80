// Package posixtree counts what a directory tree holds: it is a source.Source
// over the files below one directory.
//
// It leaves to others where a team's tree is and what its bytes count for. What
// a byte is here:
//
//   - The apparent size of regular files, with the allocated size (st_blocks of
//     512 bytes) beside it. A sparse file has more of the first, a small file of
//     the second.
//   - A file with several names (hard links) counts once, at the first name that
//     the walk meets. Names outside the tree make no difference.
//   - Symbolic links are not followed and count nothing, not even when somebody
//     swaps one in while the walk goes on: every name is looked up relative to
//     an open directory, so that a path is never resolved twice. The directories
//     above the root are the operator's and are resolved as usual.
//   - Directories themselves, sockets, pipes and devices count nothing, and no
//     file is ever opened.
//   - Other mounts are not entered. A mount is told by its device number; so a
//     btrfs subvolume or a ZFS dataset counts as another mount, and a bind mount
//     of the same file system as part of the tree.
//   - What vanishes during the walk is not counted, and what moves may be
//     counted at both places or at none: a tree has no snapshots.
//   - What cannot be read is told as incomplete, never taken for empty.
//
// What always holds: the order is the same each time (the files of a directory
// by name, then its directories by name, each with all that is in it), so that a
// walk that was cut counts nothing twice and leaves out nothing that stayed as it
// was; and memory depends on the largest directory and the depth, not on the
// number of files.
package posixtree

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/source"
)

// Opener opens directory trees. It is safe for concurrent use.
type Opener struct {
	log *slog.Logger
	// maxLinks bounds how many files with several names a walk remembers.
	maxLinks int
	// stepNames is how many files are looked at and directories entered in one step.
	stepNames int
	// device tells mounts apart, readNames what a directory holds.
	device    func(*unix.Stat_t) uint64
	readNames func(ctx context.Context, fd int, buffer []byte, add func([]byte, kind)) error
}

// New returns an Opener that tells log, and only log, the paths of what could
// not be read; a nil log drops them.
func New(log *slog.Logger) *Opener {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Opener{log: log, maxLinks: maxLinks, stepNames: stepNames, device: deviceOf, readNames: readNames}
}

// Open opens the tree t at a cursor, or at its beginning if there is none.
//
// A root that does not exist holds nothing. Any other root that is not a
// directory Purser may read is an *source.Error, and so is a cursor that no walk
// has made.
func (o *Opener) Open(ctx context.Context, t source.Tree, cursor []byte) (source.Source, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := beginning()
	if len(cursor) > 0 {
		var err error
		if s, err = decodeCursor(cursor); err != nil {
			return nil, &source.Error{ScanError: badCursor, Err: err}
		}
	}
	w := &walk{opener: o, root: t.Root, rootFD: -1, links: newLinks(o.maxLinks, s.links), state: s}
	if len(s.at) > 0 {
		if err := w.openRoot(); err != nil {
			return nil, err
		}
	}
	w.goTo(w.state.at)
	return w, nil
}

// openRoot opens the root of the tree. One that does not exist finishes the
// walk before it began.
func (w *walk) openRoot() error {
	if !filepath.IsAbs(w.root) {
		return &source.Error{ScanError: rootUnreadable, Err: errors.New("the path " + w.root + " is not absolute")}
	}
	fd, err := openat(unix.AT_FDCWD, filepath.Clean(w.root))
	if errors.Is(err, unix.ENOENT) {
		w.state.at = nil
		return nil
	}
	if err != nil {
		return rootError(w.root, err)
	}
	st, err := fstat(fd)
	if err != nil {
		_ = unix.Close(fd)
		return rootError(w.root, err)
	}
	w.rootFD, w.device = fd, w.opener.device(&st)
	return nil
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
