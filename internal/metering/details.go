package metering

import (
	"bytes"
	"iter"
	"maps"
	"slices"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/folders"
	"github.com/purserhq/purser/internal/metering/source"
)

// details are what is learned of a bucket beside its sums. They are saved with
// them, as JSON.
type details struct {
	Folders folders.Table          `json:"folders"`
	Classes map[string]folders.Sum `json:"classes,omitempty"`
	Sample  sample                 `json:"sample"`
	// Detected is what was found out about the store.
	Detected purser.Detected `json:"detected,omitzero"`
}

// clone returns details that stay as they are.
func (d *details) clone() details {
	return details{Folders: d.Folders.Clone(), Classes: maps.Clone(d.Classes), Sample: d.Sample.clone(), Detected: d.Detected}
}

// add adds what another range has learned.
func (d *details) add(other details) {
	d.Folders.Add(other.Folders)
	for name, sum := range other.Classes {
		d.addClass(name, sum)
	}
	d.Sample.add(other.Sample)
	d.Detected = d.Detected.And(other.Detected)
}

const (
	// maxClasses bounds how many storage classes are told apart: S3 has eleven, and
	// what a server makes up is summed.
	maxClasses = 16
	otherClass = "other"
)

func (d *details) addClass(name string, sum folders.Sum) {
	if d.Classes == nil {
		d.Classes = make(map[string]folders.Sum)
	}
	if _, known := d.Classes[name]; !known && len(d.Classes) >= maxClasses {
		name = otherClass
	}
	so := d.Classes[name]
	d.Classes[name] = folders.Sum{Objects: so.Objects + sum.Objects, Bytes: so.Bytes + sum.Bytes}
}

func (d *details) storageClasses() []purser.StorageClass {
	var classes []purser.StorageClass
	for _, name := range slices.Sorted(maps.Keys(d.Classes)) {
		sum := d.Classes[name]
		classes = append(classes, purser.StorageClass{
			Name: name, Amount: purser.Amount{Objects: sum.Objects, Bytes: purser.Bytes(sum.Bytes)},
		})
	}
	return classes
}

// pageDetails collects the details of one step.
type pageDetails struct {
	folders folders.Page
	classes []classSum
	newest  int // index of the class that was counted last
}

type classSum struct {
	name []byte
	sum  folders.Sum
}

func (p *pageDetails) reset() {
	p.folders.Reset()
	p.classes, p.newest = p.classes[:0], 0
}

// count counts an entry. Unfinished uploads have no details: they are in no
// folder yet.
func (p *pageDetails) count(e source.Entry) {
	if e.Class == source.Unfinished {
		return
	}
	objects := int64(0)
	if e.Class == source.Current {
		objects = 1
	}
	p.folders.Count(e.Key, objects, e.Size)
	if len(e.StorageClass) > 0 {
		class := p.class(e.StorageClass)
		class.sum.Objects += objects
		class.sum.Bytes += e.Size
	}
}

func (p *pageDetails) class(name []byte) *classSum {
	if p.newest < len(p.classes) && bytes.Equal(p.classes[p.newest].name, name) {
		return &p.classes[p.newest] // most buckets have only one
	}
	p.newest = slices.IndexFunc(p.classes, func(c classSum) bool { return bytes.Equal(c.name, name) })
	if p.newest < 0 {
		p.newest = len(p.classes)
		p.classes = append(p.classes, classSum{name: bytes.Clone(name)})
	}
	return &p.classes[p.newest]
}

// merge adds a page of a source. Folders, and where keys lie, can only be told
// from keys in order.
func (d *details) merge(p *pageDetails, from source.Source, edges func() iter.Seq[[]byte]) {
	for _, c := range p.classes {
		d.addClass(string(c.name), c.sum)
	}
	if ordered, ok := from.(source.Splitter); ok && ordered.Last() != nil {
		d.Folders.Merge(&p.folders, edges)
		if ordered.Left() > 0 { // else the next scan is not to begin in parts either
			d.Sample.see(ordered.Last())
		}
	}
}

// sample is some of the keys at which pages ended, evenly chosen: as pages are
// equally long, they tell where the keys lie.
type sample struct {
	// Every says that each key stands for so many pages; a power of two.
	Every int64 `json:"every"`
	// Seen counts the pages since the last key.
	Seen int64    `json:"seen"`
	Keys [][]byte `json:"keys"`
}

// maxSample bounds a sample: four keys for each span that a scan begins with.
const maxSample = 4 * spansAtOnce

// see takes in the last key of one more page.
func (s *sample) see(last []byte) {
	s.Every = max(s.Every, 1)
	if s.Seen++; s.Seen < s.Every {
		return
	}
	s.Seen = 0
	if s.Keys = append(s.Keys, bytes.Clone(last)); len(s.Keys) > maxSample {
		s.halve()
	}
}

// halve leaves every other key out.
func (s *sample) halve() {
	kept := s.Keys[:0]
	for i := 1; i < len(s.Keys); i += 2 {
		kept = append(kept, s.Keys[i])
	}
	s.Keys, s.Every = kept, 2*s.Every
}

func (s *sample) clone() sample { return sample{max(s.Every, 1), s.Seen, slices.Clone(s.Keys)} }

// add adds another sample; the finer of the two becomes as coarse as the other.
func (s *sample) add(other sample) {
	a, b := s.clone(), other.clone()
	for a.Every < b.Every {
		a.halve()
	}
	for b.Every < a.Every {
		b.halve()
	}
	a.Keys = append(a.Keys, b.Keys...)
	for len(a.Keys) > maxSample {
		a.halve()
	}
	*s = a
}

// cuts are the keys that cut the place into spans of equal length: as many as
// are counted at once, unless that would make them too short.
func (s *sample) cuts() [][]byte {
	keys := slices.SortedFunc(slices.Values(s.Keys), bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	spans := min(spansAtOnce, int(s.Every)*len(keys)/pagesPerSpan, len(keys))
	var cuts [][]byte
	for i := 1; i < spans; i++ {
		cuts = append(cuts, keys[i*len(keys)/spans])
	}
	return cuts
}

// pagesPerSpan is how long a span must be at least to be begun on its own.
const pagesPerSpan = 2
