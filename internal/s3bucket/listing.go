package s3bucket

import (
	"bytes"
	"errors"
	"fmt"
	"math"
)

// The limits of one page. A server that is asked for 1,000 entries may send
// more (some do), but not without end.
const (
	maxPageBytes   = 8 << 20 // a thousand keys of 1,024 bytes have 3.5 MiB when all is percent-encoded
	maxPageEntries = 10_000
	maxKeyBytes    = 4096 // S3 has 1,024; some servers take file names of any length
	maxTokenBytes  = 8192
	maxSizeDigits  = 18 // below 2^63, with room to add a page up
	maxClassBytes  = 40 // of a storage class; S3's longest has 19
)

// object is one entry of a page. Its key may still be percent-encoded: whether
// it is stands in the page, possibly behind all entries.
type object struct {
	key  []byte
	size int64
	// class is the storage class, clipped; empty if the server does not say.
	class []byte
	// Of a listing of versions only.
	version []byte
	old     bool // not the current version
	dated   bool // it is said whether it is the current version
}

// page is what a listing's answer says. Its bytes lie in the answer or in
// spare, and are good until the next page is parsed.
type page struct {
	scan    scanner
	spare   []byte
	objects []object
	markers []object // of versions: say that an object was deleted, and hold nothing
	total   int64

	bucket    []byte // the name of the bucket, when the server says it
	encoded   bool   // keys are percent-encoded
	truncated bool   // there is more
	answered  bool   // the page says whether there is more
	token     []byte // of version 2: how to go on
	marker    []byte // of version 1 and of versions: how to go on; percent-encoded if keys are
	versionID []byte // of versions: how to go on within the key
	version1  bool   // what only answers of version 1 have was seen
	version2  bool   // what only answers of version 2 have was seen

	fault *fault // the document is an error instead
}

// fault is an S3 error document.
type fault struct {
	Code, Region string
}

var (
	errNotListing = errors.New("the document is no listing")
	errFolders    = errors.New("the listing is cut at folders although nobody asked for that")
	errSize       = errors.New("a size that is no amount of bytes")
	errTwice      = errors.New("something is said twice")
)

// parse reads the answer to a listing request. What it returns as an error
// means that nothing of the page may be counted.
func (p *page) parse(body []byte) error {
	*p = page{objects: p.objects[:0], markers: p.markers[:0], spare: p.spare[:0]}
	s := &p.scan
	s.reset(body)
	if found, err := s.next(); err != nil || found != tokenOpen {
		return errors.Join(errNotListing, err)
	}
	switch string(s.local) {
	case "ListBucketResult", "ListVersionsResult":
	case "Error":
		f, err := p.parseFault()
		p.fault = f
		return err
	default:
		return errNotListing
	}
	for {
		found, err := s.next()
		switch {
		case err != nil:
			return err
		case found == tokenEnd:
			return p.check()
		case found == tokenOpen:
			if err := p.parseElement(); err != nil {
				return err
			}
		}
	}
}

// check looks at the page as a whole.
func (p *page) check() error {
	if !p.answered {
		return errors.New("the listing does not say whether it is complete")
	}
	if len(p.token) > maxTokenBytes || len(p.versionID) > maxTokenBytes || len(p.marker) > 3*maxKeyBytes {
		return errors.New("a token beyond all measure")
	}
	return nil
}

// parseElement reads one child of the root.
func (p *page) parseElement() (err error) {
	switch string(p.scan.local) {
	case "Contents", "Version":
		return p.parseObject(&p.objects)
	case "DeleteMarker":
		return p.parseObject(&p.markers)
	case "NextKeyMarker":
		p.marker, err = p.text()
	case "NextVersionIdMarker":
		p.versionID, err = p.text()
	case "Name":
		p.bucket, err = p.text()
	case "IsTruncated":
		return p.parseTruncated()
	case "NextContinuationToken":
		p.version2 = true
		p.token, err = p.text()
	case "KeyCount", "ContinuationToken", "StartAfter":
		p.version2 = true
		return p.scan.skip()
	case "NextMarker":
		p.version1 = true
		p.marker, err = p.text()
	case "Marker":
		p.version1 = true
		return p.scan.skip()
	case "EncodingType":
		var encoding []byte
		encoding, err = p.text()
		p.encoded = string(encoding) == "url"
	case "CommonPrefixes":
		return errFolders
	default:
		return p.scan.skip()
	}
	return err
}

func (p *page) text() (text []byte, err error) {
	text, p.spare, err = p.scan.value(p.spare)
	return text, err
}

func (p *page) parseTruncated() error {
	text, err := p.text()
	if err != nil {
		return err
	}
	if p.answered {
		return errTwice
	}
	p.answered = true
	switch text = bytes.TrimSpace(text); {
	case bytes.EqualFold(text, []byte("true")):
		p.truncated = true
	case !bytes.EqualFold(text, []byte("false")):
		return errors.New("the listing does not say whether it is complete")
	}
	return nil
}

// parseObject reads one Contents, Version, or DeleteMarker.
func (p *page) parseObject(to *[]object) error {
	if len(p.objects)+len(p.markers) == maxPageEntries {
		return fmt.Errorf("more than %d entries in one page", maxPageEntries)
	}
	var (
		o               object
		hasKey, hasSize bool
		s               = &p.scan
		depth           = s.depth
		found           token
		value           []byte
		err             error
	)
	for {
		if found, err = s.next(); err != nil {
			return err
		}
		if found == tokenClose && s.depth < depth {
			break
		}
		if found != tokenOpen {
			continue
		}
		switch string(s.local) {
		case "Key":
			if hasKey {
				return errTwice
			}
			o.key, err = p.text()
			hasKey = true
		case "Size":
			if hasSize {
				return errTwice
			}
			if value, err = p.text(); err == nil {
				o.size, err = parseSize(value)
			}
			hasSize = true
		case "StorageClass":
			if o.class, err = p.text(); len(o.class) > maxClassBytes {
				o.class = o.class[:maxClassBytes]
			}
		case "VersionId":
			o.version, err = p.text()
		case "IsLatest":
			if value, err = p.text(); err == nil {
				o.dated = true
				o.old = !bytes.EqualFold(bytes.TrimSpace(value), []byte("true"))
			}
		default:
			err = s.skip()
		}
		if err != nil {
			return err
		}
	}
	return p.add(to, o, hasKey && (hasSize || to == &p.markers))
}

func (p *page) add(to *[]object, o object, complete bool) error {
	switch {
	case !complete || len(o.key) == 0:
		return errors.New("an entry without a key or a size")
	case len(o.key) > 3*maxKeyBytes: // each byte may be written as %XX
		return errors.New("a key beyond all measure")
	case p.total > math.MaxInt64-o.size:
		return errSize
	}
	p.total += o.size
	*to = append(*to, o)
	return nil
}

// parseSize reads a count of bytes. Negative and absurd sizes are how a server
// would make a sum wrong.
func parseSize(text []byte) (int64, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || len(text) > maxSizeDigits {
		return 0, errSize
	}
	var n int64
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, errSize
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// parseFault reads what is inside Error.
func (p *page) parseFault() (*fault, error) {
	f := &fault{}
	for {
		found, err := p.scan.next()
		if err != nil || found == tokenEnd {
			return f, err
		}
		if found != tokenOpen {
			continue
		}
		var text []byte
		switch string(p.scan.local) {
		case "Code":
			text, err = p.text()
			f.Code = clip(text)
		case "Region":
			text, err = p.text()
			f.Region = clip(text)
		default:
			err = p.scan.skip()
		}
		if err != nil {
			return f, err
		}
	}
}

// clip keeps what a server says short enough for a log.
func clip(text []byte) string {
	const most = 100
	return string(text[:min(len(text), most)])
}

// parseLocation reads the answer to GetBucketLocation.
func (p *page) parseLocation(body []byte) (region string, _ error) {
	*p = page{objects: p.objects[:0], spare: p.spare[:0]}
	s := &p.scan
	s.reset(body)
	if found, err := s.next(); err != nil || found != tokenOpen || string(s.local) != "LocationConstraint" {
		return "", errors.Join(errNotListing, err)
	}
	text, err := p.text()
	return clip(text), err
}

// unescape appends an encoded key to to as its plain bytes. Servers that encode
// write a space as + or %20 and a plus as %2B (AWS, MinIO, Ceph), so that +
// always means a space. A % that is followed by anything else than two digits
// is meant literally, as by a server that claims to encode and does not.
func unescape(to, key []byte) []byte {
	for i := 0; i < len(key); i++ {
		c := key[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(key):
			high, ok1 := unhex(key[i+1])
			low, ok2 := unhex(key[i+2])
			if ok1 && ok2 {
				c = high<<4 | low
				i += 2
			}
		}
		to = append(to, c)
	}
	return to
}
