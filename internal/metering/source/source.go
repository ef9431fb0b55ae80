// Package source is the contract of a countable place: a bucket, or a
// directory tree.
//
// A source turns what it holds into entries and says how far it got, in steps
// small enough to be saved often. It leaves to package metering what an entry
// counts as, when to go on, and what to publish. What always holds: a step that
// fails has counted nothing, and no entry is handed out twice by steps that
// follow one another, whether in one Source or in one that was opened at the
// cursor of the other.
package source

import (
	"context"

	"github.com/purserhq/purser"
)

// Class says why an entry takes up storage.
type Class uint8

const (
	// Current is what is there for everybody to see.
	Current Class = iota
	// Noncurrent is an older version of an object, or one that was deleted.
	Noncurrent
	// Unfinished is the parts of an upload that was never completed.
	Unfinished
)

// Entry is one thing that takes up storage.
type Entry struct {
	Class Class
	// Key is the object's key, or the file's path below the tree's root with
	// slashes. It is only valid until the call that hands it out returns.
	Key []byte
	// Size is the number of bytes the entry counts as, never negative.
	Size int64
	// Allocated is the number of bytes the entry occupies on disk; 0 for buckets.
	Allocated int64
	// Objects is how many objects the entry stands for, where only a sum is known;
	// 0 means one.
	Objects int64
	// StorageClass is what the store calls the way in which it keeps the entry, valid
	// as long as Key; empty where it does not say.
	StorageClass []byte
}

// Step is what one call of Source.Step achieved.
type Step struct {
	// Done is set when nothing follows.
	Done bool
	// Requests is how many requests the step sent.
	Requests int64
	// Incomplete says what could not be read, when there was such a thing; the
	// rest was counted. Once set in a scan, the scan's figures are not published
	// as complete.
	Incomplete *purser.ScanError
}

// Source is one countable place, opened for one slice of work at the place
// where the slice before it stopped. It is not safe for concurrent use.
type Source interface {
	// Step hands the entries that follow to count, in the source's own order, and
	// returns after about a thousand of them (one page of a listing).
	//
	// It obeys ctx. An error is an *Error, or ctx's; the caller then forgets what
	// count was given during this step, and the cursor is still the one from
	// before it. Requests are reported with errors too.
	Step(ctx context.Context, count func(Entry)) (Step, error)
	// Cursor is where a Source of the same place, opened later, goes on after the
	// steps that have succeeded. It is the source's own affair, never empty after
	// a step, and safe to keep in a database.
	Cursor() []byte
	// Method names the way of measuring: "list", or one of purser.TreeMethods.
	Method() string
	// Close releases what the source holds.
	Close() error
}

// Prober is a Source that can tell whether the whole place is empty, which a
// Source restricted to a prefix cannot know from its steps.
type Prober interface {
	Empty(ctx context.Context) (bool, error)
}

// Splitter is a Source that can leave the end of what it has left to another.
type Splitter interface {
	// Split looks for a key of the place that cuts what is left in two, and returns
	// nil if it finds none for now. When it returns one, the source ends behind it,
	// and another Source can be opened for what lies between it and the source's
	// bound of before. It may learn that there is nothing near the bound, and then
	// moves the bound. Requests are reported with errors too.
	Split(ctx context.Context) (at []byte, requests int64, err error)
	// Left estimates how many steps are left; 0 while it cannot be told, and where
	// the place is better not cut at all.
	Left() float64
	// Full reports whether the store is read by as many at once as do it good, so
	// that cutting would only make parts wait for each other.
	Full() bool
	// Last is a key up to which all was handed out, and nothing behind it; nil
	// before the first, or if the place has no order.
	Last() []byte
}

// Detector is a Source that finds out by itself how its store wants to be asked.
type Detector interface {
	// Detected is how that was in the steps that have succeeded; of no use before the
	// first.
	Detected() purser.Detected
}

// Listing is one of the lists that a bucket keeps.
type Listing string

const (
	// Objects are the current versions of objects.
	Objects Listing = ""
	// Versions are all versions of objects, and replace Objects.
	Versions Listing = "versions"
	// Uploads are the uploads that were not completed.
	Uploads Listing = "uploads"
)

// Survey is what a bucket must be read for so that all it holds is counted.
type Survey struct {
	Listings []Listing
	Requests int64
	// Incomplete says what will be missing all the same.
	Incomplete *purser.ScanError
}

// Bucket is all that is needed to open a bucket; a nil cursor opens it at its
// beginning. Likewise Tree.
type Bucket struct {
	// Source tells the bucket from others at the same endpoint when it comes to whose
	// turn it is; empty where there are no others.
	Source string
	// Endpoint is the address of the S3 service; empty means AWS.
	Endpoint string
	Bucket   string
	// AccessKey is empty for a bucket that is open to everybody: then nothing is
	// signed.
	AccessKey string
	Secret    purser.Secret
	// SessionToken comes with credentials that were lent for a time.
	SessionToken purser.Secret
	Signature    purser.Signature
	// Region is the signing region; empty means: find out.
	Region string
	// Prefix restricts the source to keys that begin with it.
	Prefix string
	// After and Until restrict it further, to keys behind After and up to Until;
	// nil is no bound.
	After, Until []byte
	// What says which of the bucket's listings is read.
	What Listing
	// OneChain says that nothing may be skipped or cut, because the store does not
	// list in the order of keys: the bounds are nil, and the source goes on by the
	// store's own tokens only.
	OneChain bool
}

// Tree is all that is needed to open a directory tree.
type Tree struct {
	// Root is the absolute path of the directory. One that does not exist holds
	// nothing and is complete.
	Root string
	// Method is the way of measuring that the operator wants.
	Method purser.TreeMethod
}
