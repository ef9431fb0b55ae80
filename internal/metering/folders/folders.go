// Package folders finds the biggest folders of a place while the place is
// counted, exactly and in little memory.
//
// It relies on order: keys come as a bucket lists them, so that a folder is one
// stretch of keys, and a folder with keys before and behind its own is complete.
// Of the complete ones only the biggest are kept. Those that are not are the
// folders of the keys at which counting goes on or was cut, which are few.
// What always holds: at each depth, the folders and the rest add up to all that
// was counted.
package folders

import (
	"bytes"
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	"github.com/purserhq/purser"
)

const (
	// Depths is how many levels of folders are told apart.
	Depths = 3
	// Biggest is how many folders are kept of each.
	Biggest = 10
	// roomy is how many folders a level may have before it is worth pruning.
	roomy = 1024
)

// Sum is what a folder holds.
type Sum struct{ Objects, Bytes int64 }

func (s Sum) plus(other Sum) Sum { return Sum{s.Objects + other.Objects, s.Bytes + other.Bytes} }

// folderAt returns the folder at a depth, from 0 on, that a key is in, or nil;
// skip is how much of each key comes before the first folder.
func folderAt(key []byte, skip, depth int) []byte {
	end := min(skip, len(key))
	for ; depth >= 0; depth-- {
		i := bytes.IndexByte(key[end:], '/')
		if i < 0 {
			return nil
		}
		end += i + 1
	}
	return key[:end]
}

// Page collects the keys of one page, which follow one another.
type Page struct {
	Skip   int // how much of each key comes before the first folder
	names  []byte
	levels [Depths]struct {
		runs []run
		rest Sum // of keys in no folder of this depth
	}
}

// run is a stretch of keys in one folder, whose name lies in Page.names.
type run struct {
	begin, end int
	sum        Sum
}

// Reset forgets all keys.
func (p *Page) Reset() {
	p.names = p.names[:0]
	for d := range p.levels {
		p.levels[d].runs, p.levels[d].rest = p.levels[d].runs[:0], Sum{}
	}
}

// Count counts a key, which comes behind all that were counted since Reset, or
// is the last of them again.
func (p *Page) Count(key []byte, objects, size int64) {
	sum := Sum{objects, size}
	for d := range p.levels {
		level := &p.levels[d]
		if n := len(level.runs); n > 0 {
			if last := &level.runs[n-1]; bytes.HasPrefix(key, p.names[last.begin:last.end]) {
				last.sum = last.sum.plus(sum)
				continue
			}
		}
		name := folderAt(key, p.Skip, d)
		if name == nil {
			for ; d < Depths; d++ {
				p.levels[d].rest = p.levels[d].rest.plus(sum)
			}
			return
		}
		begin := len(p.names)
		p.names = append(p.names, name...)
		level.runs = append(level.runs, run{begin, len(p.names), sum})
	}
}

// Table has the biggest folders of all pages. The zero value is empty, and for
// keys that begin with their first folder.
type Table struct {
	Skip   int // as Page.Skip
	levels [Depths]level
}

// level has the folders of one depth.
type level struct {
	folders map[string]Sum
	rest    Sum
	// floor is what the smallest of the biggest complete folders holds: a complete
	// one with less is none of them.
	floor int64
}

// Merge adds a page. edges are called for where the table has grown: see Prune.
func (t *Table) Merge(p *Page, edges func() iter.Seq[[]byte]) {
	grown := false
	for d := range t.levels {
		level, page := &t.levels[d], &p.levels[d]
		level.rest = level.rest.plus(page.rest)
		for i, r := range page.runs {
			complete := i > 0 && i < len(page.runs)-1
			if complete && r.sum.Bytes < level.floor {
				level.rest = level.rest.plus(r.sum)
				continue
			}
			level.add(string(p.names[r.begin:r.end]), r.sum)
		}
		grown = grown || len(level.folders) > roomy
	}
	if grown {
		t.Prune(edges())
	}
}

func (l *level) add(name string, sum Sum) {
	if l.folders == nil {
		l.folders = make(map[string]Sum)
	}
	l.folders[name] = l.folders[name].plus(sum)
}

// Prune drops what is not needed: complete folders that are not among the
// biggest. edges are the keys, or any between them and the next, up to which
// or from which on something is left to be counted: a folder that such a key is
// in is not complete.
func (t *Table) Prune(edges iter.Seq[[]byte]) {
	var open [Depths]map[string]bool
	for d := range open {
		open[d] = make(map[string]bool)
	}
	for key := range edges {
		for d := range open {
			if name := folderAt(key, t.Skip, d); name != nil {
				open[d][string(name)] = true
			}
		}
	}
	for d := range t.levels {
		t.levels[d].prune(open[d])
	}
}

func (l *level) prune(open map[string]bool) {
	complete := make([]string, 0, len(l.folders))
	for name := range l.folders {
		if !open[name] {
			complete = append(complete, name)
		}
	}
	if len(complete) < Biggest {
		return
	}
	l.sort(complete)
	for _, name := range complete[Biggest:] {
		l.rest = l.rest.plus(l.folders[name])
		delete(l.folders, name)
	}
	l.floor = l.folders[complete[Biggest-1]].Bytes
}

// sort puts the biggest first.
func (l *level) sort(names []string) {
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(l.folders[b].Bytes, l.folders[a].Bytes), cmp.Compare(a, b))
	})
}

// Add adds another table.
func (t *Table) Add(other Table) {
	for d, from := range other.levels {
		to := &t.levels[d]
		to.rest = to.rest.plus(from.rest)
		for name, sum := range from.folders {
			to.add(name, sum)
		}
	}
}

// Clone returns a table that stays as it is.
func (t *Table) Clone() Table {
	clone := *t
	for d := range clone.levels {
		clone.levels[d].folders = maps.Clone(t.levels[d].folders)
	}
	return clone
}

// Levels returns the biggest folders of a table to which nothing will be added,
// down to the deepest that there are.
func (t *Table) Levels() []purser.FolderLevel {
	levels := []purser.FolderLevel{}
	for _, level := range t.levels {
		names := slices.Collect(maps.Keys(level.folders))
		if len(names) == 0 {
			break
		}
		level.sort(names)
		public := purser.FolderLevel{Rest: purser.Amount{Objects: level.rest.Objects, Bytes: purser.Bytes(level.rest.Bytes)}}
		for i, name := range names {
			sum := level.folders[name]
			amount := purser.Amount{Objects: sum.Objects, Bytes: purser.Bytes(sum.Bytes)}
			if i < Biggest {
				public.Biggest = append(public.Biggest, purser.Folder{Path: name, Amount: amount})
				continue
			}
			public.Rest.Objects += amount.Objects
			public.Rest.Bytes += amount.Bytes
		}
		levels = append(levels, public)
	}
	return levels
}

// levelJSON is how a level is saved. Names are bytes, since keys need not be text.
type levelJSON struct {
	Folders []folderJSON `json:"folders"`
	Rest    Sum          `json:"rest"`
}

type folderJSON struct {
	Name []byte `json:"name"`
	Sum
}

// MarshalJSON saves what a table holds; its Skip is for its user to know.
func (t Table) MarshalJSON() ([]byte, error) {
	var saved [Depths]levelJSON
	for d, level := range t.levels {
		saved[d].Rest = level.rest
		for _, name := range slices.Sorted(maps.Keys(level.folders)) {
			saved[d].Folders = append(saved[d].Folders, folderJSON{[]byte(name), level.folders[name]})
		}
	}
	return json.Marshal(saved)
}

// UnmarshalJSON reads what MarshalJSON has written.
func (t *Table) UnmarshalJSON(text []byte) error {
	var saved [Depths]levelJSON
	if err := json.Unmarshal(text, &saved); err != nil {
		return err
	}
	for d, from := range saved {
		t.levels[d] = level{rest: from.Rest}
		for _, f := range from.Folders {
			t.levels[d].add(string(f.Name), f.Sum)
		}
	}
	return nil
}
