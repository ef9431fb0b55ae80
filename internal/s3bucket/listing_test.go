package s3bucket

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// counted is a page as a test writes it down.
type counted struct {
	Keys      []string
	Sizes     []int64
	Bucket    string
	Truncated bool
	Token     string
	Marker    string
}

func countedOf(p *page) counted {
	c := counted{Bucket: string(p.bucket), Truncated: p.truncated, Token: string(p.token), Marker: string(p.marker)}
	l := &lister{page: *p}
	for _, o := range p.objects {
		c.Keys = append(c.Keys, string(l.key(o, new([]byte))))
		c.Sizes = append(c.Sizes, o.size)
	}
	return c
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	one := counted{Keys: []string{"a"}, Sizes: []int64{5}}
	key := func(k string) counted { return counted{Keys: []string{k}, Sizes: []int64{5}} }
	for _, c := range []struct {
		name, body string
		want       counted
	}{
		{"nothing", listing(complete), counted{}},
		{
			"what AWS sends", listing(`<Name>b</Name><Prefix></Prefix><NextContinuationToken>1ueG/=</NextContinuationToken><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>` +
				`<Contents><Key>a%2Bb+c/d%25</Key><LastModified>2026-11-24T05:00:00.000Z</LastModified><ETag>&quot;d41d&quot;</ETag><ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>5</Size><Owner><ID>x</ID><DisplayName>Size</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Contents>`),
			counted{Keys: []string{"a+b c/d%"}, Sizes: []int64{5}, Bucket: "b", Truncated: true, Token: "1ueG/="},
		},
		{"encoding type behind the keys", listing(complete + entry("a%20b", "5") + `<EncodingType>url</EncodingType>`), key("a b")},
		{"no encoding type", listing(complete + entry("a%20b+c", "5")), key("a%20b+c")},
		{
			"escapes that are none", listing(complete + entry("100%", "5") + entry("%zz", "6") + entry("%4", "7") + `<EncodingType>url</EncodingType>`),
			counted{Keys: []string{"100%", "%zz", "%4"}, Sizes: []int64{5, 6, 7}},
		},
		{"escapes of bytes that are no UTF-8", listing(complete + entry("%FF%fe%00", "5") + `<EncodingType>url</EncodingType>`), key("\xff\xfe\x00")},
		{"size before key", listing(complete + `<Contents><Size>5</Size><Key>a</Key></Contents>`), one},
		{"entries before everything", listing(entry("a", "5") + complete), one},
		{"namespace prefix", `<s3:ListBucketResult xmlns:s3="u"><s3:IsTruncated>false</s3:IsTruncated><s3:Contents><s3:Key>a</s3:Key><s3:Size>5</s3:Size></s3:Contents></s3:ListBucketResult>`, one},
		{"attributes", listing(complete + `<Contents a="1" b='>'><Key x = "/>">a</Key><Size>5</Size></Contents>`), one},
		{"space everywhere", "\n " + `<ListBucketResult ><IsTruncated > TRUE </IsTruncated >` + "\n<Contents\n><Key\t>a</Key ><Size> 5\n</Size></Contents></ListBucketResult>\n", counted{Keys: []string{"a"}, Sizes: []int64{5}, Truncated: true}},
		{"byte order mark", "\ufeff" + listing(complete+entry("a", "5")), one},
		{"comments and instructions", listing(`<!-- <Contents> -->`+complete+`<?x <Contents>?><Contents><!----><Key>a<!--b--></Key><Size>5</Size></Contents>`) + "<!-- end -->\n", one},
		{"CDATA", listing(complete + entry("<![CDATA[<a&amp;]]>&lt;<![CDATA[]]]]>", "<![CDATA[5]]>")), key("<a&amp;<]]")},
		{"entities", listing(complete + entry("&amp;&lt;&gt;&quot;&apos;&#65;&#x4a;&#xe4;&#x1F600;&amp;amp;", "5")), key("&<>\"'AJä😀&amp;")},
		{"entities before escapes", listing(complete + entry("a&#37;20b", "5") + `<EncodingType>url</EncodingType>`), key("a b")},
		{"characters that XML forbids", listing(complete + entry("a\x01\x1f\x7f&#x1;&#27;", "5")), key("a\x01\x1f\x7f\x01\x1b")},
		{"bytes that are no UTF-8", listing(complete + entry("a\xff\xc3", "5")), key("a\xff\xc3")},
		{"space in a key is kept", listing(complete + entry(" a  b\t\n", "5")), key(" a  b\t\n")},
		{"empty elements", listing(`<Prefix/><Marker /><Owner/>` + complete + `<Contents><Owner/><Key>a</Key><ETag /><Size>5</Size></Contents><X><Y/></X>`), one},
		{"unknown elements with familiar ones inside", listing(complete + `<X><Contents><Key>n</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated></X>` + entry("a", "5")), one},
		{"the largest size", listing(complete + entry("a", strings.Repeat("9", 18))), counted{Keys: []string{"a"}, Sizes: []int64{999999999999999999}}},
		{"version 1", listing(`<Name>b</Name><Marker></Marker><NextMarker>z</NextMarker><IsTruncated>true</IsTruncated>` + entry("a", "5")), counted{Keys: []string{"a"}, Sizes: []int64{5}, Bucket: "b", Truncated: true, Marker: "z"}},
	} {
		var p page
		if err := p.parse([]byte(c.body)); err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, countedOf(&p)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("<x>", 100_000) + strings.Repeat("</x>", 100_000)
	cases := map[string]string{
		"nothing at all":                   "",
		"space":                            " \n",
		"a web page":                       "<!DOCTYPE html><html><body>hello</body></html>",
		"a web page without a doctype":     "<html><body>hello</body></html>",
		"JSON":                             `{"items": []}`,
		"another document":                 "<ListAllMyBucketsResult></ListAllMyBucketsResult>",
		"a document type":                  `<!DOCTYPE x [<!ENTITY a "b">]>` + listing(complete),
		"a document type inside":           listing(complete + `<!DOCTYPE x>`),
		"an entity of one's own":           listing(complete + entry("&a;", "5")),
		"an entity without an end":         listing(complete + entry("&amp", "5")),
		"an entity for no character":       listing(complete + entry("&#x110000;", "5")),
		"an entity for half a character":   listing(complete + entry("&#xd800;", "5")),
		"an entity of an endless number":   listing(complete + entry("&#"+strings.Repeat("9", 100)+";", "5")),
		"an entity without a number":       listing(complete + entry("&#;", "5")),
		"another encoding":                 `<?xml version="1.0" encoding="ISO-8859-1"?><ListBucketResult>` + complete + `</ListBucketResult>`,
		"elements too deep":                listing(complete + deep),
		"tags that do not match":           listing(complete + "<Contents><Key>a</Size><Size>5</Key></Contents>"),
		"prefixes that do not match":       "<a:ListBucketResult>" + complete + "</b:ListBucketResult>",
		"a tag too many":                   listing(complete) + "</ListBucketResult>",
		"a second document":                listing(complete) + listing(complete),
		"text behind the document":         listing(complete) + "x",
		"text before the document":         "x" + listing(complete),
		"a negative size":                  listing(complete + entry("a", "-5")),
		"a size with a sign":               listing(complete + entry("a", "+5")),
		"a broken size":                    listing(complete + entry("a", "1.5")),
		"a size in other digits":           listing(complete + entry("a", "٥")),
		"no size":                          listing(complete + "<Contents><Key>a</Key></Contents>"),
		"an empty size":                    listing(complete + entry("a", "")),
		"a size of 19 digits":              listing(complete + entry("a", "1"+strings.Repeat("0", 18))),
		"sizes whose sum is too large":     listing(complete + strings.Repeat(entry("a", strings.Repeat("9", 18)), 10)),
		"no key":                           listing(complete + "<Contents><Size>5</Size></Contents>"),
		"an empty key":                     listing(complete + entry("", "5")),
		"two keys":                         listing(complete + "<Contents><Key>a</Key><Key>b</Key><Size>5</Size></Contents>"),
		"two sizes":                        listing(complete + "<Contents><Key>a</Key><Size>5</Size><Size>6</Size></Contents>"),
		"an element in a key":              listing(complete + entry("a<b>c</b>", "5")),
		"a huge key":                       listing(complete + entry(strings.Repeat("k", 3*maxKeyBytes+1), "5")),
		"a huge token":                     listing(complete + "<NextContinuationToken>" + strings.Repeat("k", maxTokenBytes+1) + "</NextContinuationToken>"),
		"not said whether complete":        listing(entry("a", "5")),
		"said twice whether complete":      listing(complete + complete),
		"said strangely whether complete":  listing("<IsTruncated>maybe</IsTruncated>"),
		"folders":                          listing(complete + "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"),
		"an attribute without a value":     listing(complete + "<X y></X>"),
		"an attribute without quotes":      listing(complete + "<X y=1></X>"),
		"a tag inside an attribute":        listing(complete + `<X y="<"></X>`),
		"a tag without a name":             listing(complete + "<></>"),
		"a stray slash":                    listing(complete + "<X / ></X>"),
		"too many entries":                 listing(complete + strings.Repeat(entry("a", "1"), maxPageEntries+1)),
		"CDATA outside":                    "<![CDATA[x]]>" + listing(complete),
		"a comment without an end":         "<!-- " + listing(complete),
		"an instruction without an end":    "<?x <ListBucketResult>" + complete + "</ListBucketResult>",
		"an end tag with something behind": "<ListBucketResult>" + complete + "</ListBucketResult x>",
	}
	for name, body := range cases {
		var p page
		if err := p.parse([]byte(body)); err == nil {
			t.Errorf("%s was accepted: %+v", name, countedOf(&p))
		}
	}
}

// TestParseRefusesEveryTruncation cuts a page at each byte: none of the pieces
// may pass for a shorter listing.
func TestParseRefusesEveryTruncation(t *testing.T) {
	t.Parallel()
	body := []byte(listing(`<Name>b</Name>` + complete + entry("a&amp;b", "5") + `<!-- c --><X y="z"/>` + entry("<![CDATA[c]]>", "6")))
	var p page
	for n := range body {
		if err := p.parse(body[:n]); err == nil {
			t.Errorf("cut at byte %d (%q) was accepted", n, body[max(0, n-20):n])
		}
	}
	if err := p.parse(body); err != nil {
		t.Errorf("the whole page: %v", err)
	}
}

func TestParseFault(t *testing.T) {
	t.Parallel()
	var p page
	err := p.parse([]byte(`<?xml version="1.0"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>x</Message><Region>eu-west-1</Region></Error>`))
	if err != nil || p.fault == nil || *p.fault != (fault{"AuthorizationHeaderMalformed", "eu-west-1"}) {
		t.Errorf("parse = %v, fault %+v", err, p.fault)
	}
}

func TestUnescapeOfEveryByte(t *testing.T) {
	t.Parallel()
	for b := range 256 {
		want := string([]byte{'a', byte(b), 'z'})
		for _, format := range []string{"a%%%02Xz", "a%%%02xz"} {
			if got := string(unescape(nil, fmt.Appendf(nil, format, b))); got != want {
				t.Errorf("unescape("+format+") = %q, want %q", b, got, want)
			}
		}
	}
}

// standard is what encoding/xml makes of a listing.
type standard struct {
	XMLName     xml.Name `xml:"ListBucketResult"`
	Name        string
	IsTruncated string
	Token       string `xml:"NextContinuationToken"`
	Marker      string `xml:"NextMarker"`
	Encoding    string `xml:"EncodingType"`
	Contents    []struct {
		Key  string
		Size string
	}
}

// FuzzParse compares with encoding/xml: where both accept a document, they must
// read the same from it.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		listing(complete), listing(complete + entry("a", "5")),
		listing(`<EncodingType>url</EncodingType>` + complete + entry("a%20b+c", "5") + entry("b&amp;<![CDATA[<x>]]>", "07")),
		listing(`<Name>b</Name><IsTruncated>true</IsTruncated><NextContinuationToken>t&#x41;</NextContinuationToken><!-- c --><X y="1"><Contents/></X>`),
		`<a:ListBucketResult xmlns:a="b"><a:IsTruncated>false</a:IsTruncated></a:ListBucketResult>`,
		`<Error><Code>SlowDown</Code></Error>`, `<LocationConstraint>EU</LocationConstraint>`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p page
		if err := p.parse(body); err != nil || p.fault != nil {
			return
		}
		var want standard
		decoder := xml.NewDecoder(bytes.NewReader(body))
		// encoding/xml turns \r into \n, as XML says; keys are taken as they are.
		if bytes.IndexByte(body, '\r') >= 0 || decoder.Decode(&want) != nil || len(want.Contents) == 0 && len(p.objects) == 0 {
			return
		}
		compare(t, countedOf(&p), want, p.encoded)
	})
}

func compare(t *testing.T, got counted, want standard, encoded bool) {
	t.Helper()
	if encoded != (want.Encoding == "url") || got.Bucket != want.Name || got.Token != want.Token || got.Marker != want.Marker ||
		got.Truncated != strings.EqualFold(strings.TrimSpace(want.IsTruncated), "true") || len(got.Keys) != len(want.Contents) {
		t.Fatalf("got %+v, encoding/xml %+v", got, want)
	}
	for i, c := range want.Contents {
		key := c.Key
		if encoded {
			key = string(unescape(nil, []byte(key)))
		}
		size, err := parseSize([]byte(c.Size))
		if err != nil || got.Keys[i] != key || got.Sizes[i] != size {
			t.Fatalf("entry %d: got %q %d, encoding/xml %q %q", i, got.Keys[i], got.Sizes[i], c.Key, c.Size)
		}
	}
}

// samplePage is a page as AWS sends it: 1,000 entries, 340 kB.
func samplePage() []byte {
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix></Prefix><NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</NextContinuationToken><KeyCount>1000</KeyCount><MaxKeys>1000</MaxKeys><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>`)
	for i := range 1000 {
		fmt.Fprintf(&b, `<Contents><Key>teaabcdefghijkl/datasets/imagenet/train/n%08d/sample_%08d.jpeg</Key><LastModified>2026-11-24T05:00:00.000Z</LastModified><ETag>&quot;%032x&quot;</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`, i/10, i, i*7919, i*1000)
	}
	b.WriteString(`</ListBucketResult>`)
	return b.Bytes()
}

func BenchmarkParse(b *testing.B) {
	body := samplePage()
	var p page
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := p.parse(body); err != nil || len(p.objects) != 1000 {
			b.Fatal(err, len(p.objects))
		}
	}
}

func BenchmarkParseEncodingXML(b *testing.B) {
	body := samplePage()
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var r standard
		if err := xml.Unmarshal(body, &r); err != nil || len(r.Contents) != 1000 {
			b.Fatal(err, len(r.Contents))
		}
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	body := samplePage()
	var p page
	if err := p.parse(body); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { _ = p.parse(body) }); n > 0 {
		t.Errorf("%v allocations for a page", n)
	}
}
