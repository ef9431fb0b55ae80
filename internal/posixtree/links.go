package posixtree

// maxLinks is how many files with several names a walk keeps in mind at a time,
// namely those it has met some, but not all, names of. It bounds the memory of a
// walk (about 16 MiB) and the size of its cursor (about 1 MiB for files made one
// after the other, at most 5 MiB). Names of files beyond it are left out and the
// scan is incomplete: counting them could count a file twice, silently.
const maxLinks = 1 << 18

// fileID is one file, whatever its names. The device belongs to it because on
// layered file systems files of one directory can come from several.
type fileID struct{ device, inode uint64 }

// links knows which files with several names have been counted.
type links struct {
	limit int
	// left is how many names have not been met yet, of the files of which some
	// have; a file is forgotten when all have been met.
	left map[fileID]uint64
	undo []linkChange
}

// linkChange is a value as it was before; 0 means that there was none.
type linkChange struct {
	id   fileID
	left uint64
}

func newLinks(limit int, left map[fileID]uint64) *links {
	if left == nil {
		left = map[fileID]uint64{}
	}
	return &links{limit: limit, left: left}
}

// first notes that a name of a file with so many names has been met, and
// reports whether it was the first and whether the file could be remembered.
func (l *links) first(id fileID, names uint64) (first, remembered bool) {
	left, known := l.left[id]
	if !known && len(l.left) >= l.limit {
		return true, false
	}
	l.undo = append(l.undo, linkChange{id, left})
	if !known {
		l.left[id] = names - 1
		return true, true
	}
	if left == 1 {
		delete(l.left, id)
	} else {
		l.left[id] = left - 1
	}
	return false, true
}

// commit keeps what has been noted since the commit before.
func (l *links) commit() { l.undo = l.undo[:0] }

// rollback forgets what has been noted since the last commit.
func (l *links) rollback() {
	for i := len(l.undo) - 1; i >= 0; i-- {
		if change := l.undo[i]; change.left == 0 {
			delete(l.left, change.id)
		} else {
			l.left[change.id] = change.left
		}
	}
	l.commit()
}
