package canned

import (
	"bytes"
	"net/url"
)

// goneSuffix makes the key of a deleted object from that of the one before.
const goneSuffix = "~gone"

// version is one row of ListObjectVersions.
type version struct {
	key    []byte
	id     string
	latest bool
	marker bool // a delete marker
	size   int64
	seed   int
}

// versionsAt are the versions that belong to the place i, in the order of the
// listing. A bucket without versions has one of each object. With them, two of
// three objects have been overwritten, and every tenth is followed by one that
// was deleted.
func (b *Bucket) versionsAt(i int) []version {
	key := b.keys.key(nil, i)
	if !b.versioned {
		return []version{{key: key, id: "null", latest: true, size: b.keys.size(i), seed: i}}
	}
	h := hash(i, saltVersions)
	row := func(key []byte, n int, size int64) version {
		seed := i<<3 | n
		return version{key: key, id: string(hex16(hex16(nil, hash(seed, saltVersionID)), uint64(seed))), latest: n == 0, size: size, seed: seed}
	}
	rows := []version{row(key, 0, b.keys.size(i))}
	for n := range int(h % 3) {
		rows = append(rows, row(key, n+1, sizeOf(i<<3|n+1)))
	}
	gone := append(bytes.Clone(key), goneSuffix...)
	if h>>8%10 == 0 && (i+1 == b.keys.n || bytes.Compare(gone, b.keys.key(nil, i+1)) < 0) {
		deleted, was := row(gone, 4, 0), row(gone, 5, sizeOf(i<<3|5))
		deleted.latest, deleted.marker = true, true
		rows = append(rows, deleted, was)
	}
	return rows
}

// versionPage is one answer of ListObjectVersions.
type versionPage struct {
	page
	lastID string
	common []byte // the last common prefix
}

// keptVersions is versions, which is slow, with a memory: benchmarks ask the
// same questions in every round.
func (b *Bucket) keptVersions(v url.Values) ([][]byte, error) {
	question := v.Encode()
	if kept, ok := b.answers.Load(question); ok {
		return [][]byte{kept.([]byte)}, nil
	}
	pieces, err := b.versions(v)
	if err != nil {
		return nil, err
	}
	answer := bytes.Join(pieces, nil)
	if b.room.Load() > 0 {
		if _, known := b.answers.LoadOrStore(question, answer); !known {
			b.room.Add(-int64(len(question) + len(answer)))
		}
	}
	return [][]byte{answer}, nil
}

// versions answers ListObjectVersions.
func (b *Bucket) versions(v url.Values) ([][]byte, error) {
	q, err := b.question(v, "key-marker")
	if err != nil {
		return nil, err
	}
	if q.version != "" && !b.hasVersion(q.after, q.version) {
		return nil, badArgumentError("version-id-marker is not a version of key-marker")
	}
	p := b.listVersions(&q)
	const root = "ListVersionsResult"
	head := b.head(root, &q)
	head = append(head, "<KeyMarker>"...)
	head = append(appendText(head, q.after, q.encoded), "</KeyMarker>"...)
	head = append(appendText(append(head, "<VersionIdMarker>"...), q.version, false), "</VersionIdMarker>"...)
	if p.truncated {
		head = element(head, "NextKeyMarker", string(p.last), q.encoded)
		head = element(head, "NextVersionIdMarker", p.lastID, false)
	}
	return finish(head, p.page, root), nil
}

func (b *Bucket) hasVersion(key, id string) bool {
	if i := b.keys.after(key) - 1; i >= 0 {
		for _, row := range b.versionsAt(i) {
			if string(row.key) == key && row.id == id {
				return true
			}
		}
	}
	return false
}

func (b *Bucket) listVersions(q *question) versionPage {
	low, high := b.keys.within(q.prefix)
	// What was deleted belongs to the place before it.
	i := max(0, low-1, b.keys.after(q.after)-1)
	var p versionPage
	if q.max == 0 {
		return p
	}
	if string(q.commonPrefix([]byte(q.after))) == q.after && q.after != "" {
		p.common = []byte(q.after)
		i = max(i, b.keys.beyond(low, q.after)-1)
	}
	var xml []byte
	behind := q.after == "" // behind the marker
	for ; i < min(high+1, b.keys.n); i++ {
		for _, row := range b.versionsAt(i) {
			if !behind {
				switch order := bytes.Compare(row.key, []byte(q.after)); {
				case order > 0:
					behind = true
				case order == 0:
					behind = q.version == row.id
					continue
				default:
					continue
				}
			}
			if !bytes.HasPrefix(row.key, []byte(q.prefix)) || p.common != nil && bytes.HasPrefix(row.key, p.common) {
				continue
			}
			if p.truncated = p.entries == q.max; p.truncated {
				p.pieces = [][]byte{xml}
				return p
			}
			p.entries++
			if p.common = bytes.Clone(q.commonPrefix(row.key)); p.common != nil {
				p.last, p.lastID = p.common, ""
				p.prefixes = appendCommonPrefix(p.prefixes, p.common, q.encoded)
				i = max(i, b.keys.beyond(i, string(p.common))-2) // the rest is skipped one by one
				break
			}
			p.last, p.lastID = row.key, row.id
			xml = appendVersion(xml, row, q.encoded)
		}
	}
	p.pieces = [][]byte{xml}
	return p
}

func appendVersion(dst []byte, v version, encoded bool) []byte {
	name := "Version"
	if v.marker {
		name = "DeleteMarker"
	}
	dst = append(append(append(dst, '<'), name...), "><Key>"...)
	dst = appendText(dst, v.key, encoded)
	dst = append(append(append(dst, "</Key><VersionId>"...), v.id...), "</VersionId><IsLatest>"...)
	if v.latest {
		dst = append(dst, "true</IsLatest>"...)
	} else {
		dst = append(dst, "false</IsLatest>"...)
	}
	if v.marker {
		dst = append(appendTime(append(dst, "<LastModified>"...), hash(v.seed, saltTime)), "</LastModified>"...)
	} else {
		dst = appendProperties(dst, hash(v.seed, saltTime), hash(v.seed, saltETag), hash(v.seed, saltETag2), v.size)
	}
	dst = append(dst, "<Owner><ID>75aa57f09aa0c8caeab4f8c24e99d10f8e7faeebf76c078efc7c6caea54ba06a</ID></Owner></"...)
	return append(append(dst, name...), '>')
}
