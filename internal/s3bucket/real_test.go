package s3bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/egress"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/s3bucket"
	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

func TestMain(m *testing.M) { s3servertest.Main(m) }

func newOpener(t *testing.T) *s3bucket.Opener {
	t.Helper()
	rule, err := egress.ParseRule("127.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := egress.New([]egress.Rule{rule})
	if err != nil {
		t.Fatal(err)
	}
	o := s3bucket.New(policy, egress.Options{})
	t.Cleanup(o.Close)
	return o
}

func bucketOf(s *s3servertest.Server, bucket string) source.Bucket {
	return source.Bucket{Endpoint: s.Endpoint, Bucket: bucket, AccessKey: s.AccessKey, Secret: s.Secret, Signature: purser.SignatureV4}
}

// spansOf opens spans of a bucket for an engine.
func spansOf(o *s3bucket.Opener, b source.Bucket) func(context.Context, engine.Span, bool) (source.Source, error) {
	return func(ctx context.Context, span engine.Span, oneChain bool) (source.Source, error) {
		part := b
		part.What, part.After, part.Until, part.OneChain = span.What, span.After, span.Until, oneChain
		return o.Open(ctx, part, span.Cursor)
	}
}

// drain counts a bucket, with a new source after every few steps.
func drain(t *testing.T, o *s3bucket.Opener, b source.Bucket, stepsPerSource int) map[string]int64 {
	t.Helper()
	var cursor []byte
	found := map[string]int64{}
	for {
		s, err := o.Open(t.Context(), b, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for range stepsPerSource {
			step, err := s.Step(t.Context(), func(e source.Entry) {
				if _, twice := found[string(e.Key)]; twice {
					t.Errorf("%q came twice", e.Key)
				}
				found[string(e.Key)] = e.Size
			})
			if err != nil {
				t.Fatal(err)
			}
			if cursor = s.Cursor(); step.Done {
				return found
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestExactOnARealServer counts odd keys on versitygw, cut at every page.
func TestExactOnARealServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "odd")
	want := map[string]int64{}
	for i, key := range []string{
		"a b", "a+b", "a%b", "a%20b", "a%2Bb", "a&b<c>\"d'", "ä/ö ü", "日本語/ファイル", "😀", "a=b;c", "~tilde", "(paren)*!", "back\\slash", "a\u00a0b",
		"sort/x", "sort-x", "sort.x", "sort0x", "sort/x-/y", "sort/x/y", "sort!/z", "sort x", "sort",
	} {
		if key == "sort" || key == "sort/x" {
			continue // versitygw cannot hold a key and keys below it
		}
		want[key] = int64(i + 1)
		s.Put(t, "odd", key, i+1)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 3500 {
		key := fmt.Sprintf("team/%c/%s/f%04d", 'a'+rune(i%7), []string{"datasets", "datasets-1", "datasets.x", "models"}[i%4], i)
		want[key] = random.Int64N(1 << 40)
		s.Write(t, "odd", key, want[key])
	}
	for _, steps := range []int{1, 2, 1000} {
		if diff := cmp.Diff(want, drain(t, newOpener(t), bucketOf(s, "odd"), steps)); diff != "" {
			t.Errorf("%d steps for each source (-want +got):\n%s", steps, diff)
		}
	}
	b := bucketOf(s, "odd")
	b.Prefix = "team/a/"
	below := drain(t, newOpener(t), b, 1)
	if len(below) != 500 {
		t.Errorf("%d keys below %s, want 500", len(below), b.Prefix)
	}
}

func TestRegionAndEmptinessOfARealServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "empty")
	o, err := newOpener(t).Open(t.Context(), bucketOf(s, "empty"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if empty, err := o.(source.Prober).Empty(t.Context()); err != nil || !empty {
		t.Errorf("Empty() = %t, %v", empty, err)
	}
	step, err := o.Step(t.Context(), func(source.Entry) { t.Error("an entry in an empty bucket") })
	if err != nil || !step.Done || len(o.Cursor()) == 0 {
		t.Errorf("Step() = %+v, %v; cursor %q", step, err, o.Cursor())
	}
	want := purser.Detected{Region: s.Region, ListVersion: 2, Addressing: purser.AddressingPath}
	if got := o.(source.Detector).Detected(); got != want {
		t.Errorf("Detected() = %+v, want %+v", got, want)
	}
	s.Put(t, "empty", "other/x", 1)
	b := bucketOf(s, "empty")
	b.Prefix = "team/"
	if o, err = newOpener(t).Open(t.Context(), b, nil); err != nil {
		t.Fatal(err)
	}
	if empty, err := o.(source.Prober).Empty(t.Context()); err != nil || empty {
		t.Errorf("Empty() with an object outside the prefix = %t, %v", empty, err)
	}
}

func TestRealServerRefuses(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "data")
	for _, c := range []struct {
		name   string
		change func(*source.Bucket)
		codes  []string
	}{
		{"a wrong secret", func(b *source.Bucket) { b.Secret = purser.NewSecret("wrong") }, []string{source.CodeBadCredentials}},
		{"an unknown key", func(b *source.Bucket) { b.AccessKey = "AKNOBODY" }, []string{source.CodeBadCredentials}},
		{"a bucket that is not there", func(b *source.Bucket) { b.Bucket = "missing" }, []string{source.CodeNoSuchBucket}},
		{"signature version 2", func(b *source.Bucket) { b.Signature = purser.SignatureV2 }, []string{source.CodeBadCredentials, source.CodeAccessDenied}},
	} {
		b := bucketOf(s, "data")
		c.change(&b)
		o, err := newOpener(t).Open(t.Context(), b, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.Step(t.Context(), func(source.Entry) { t.Errorf("%s: an entry was counted", c.name) })
		var e *source.Error
		if !errors.As(err, &e) || !slices.Contains(c.codes, e.Code) || e.Temporary {
			t.Errorf("%s: %v, want %v", c.name, err, c.codes)
		}
	}
}

// TestUnfinishedUploadsOfARealServer begins uploads and never completes them.
func TestUnfinishedUploadsOfARealServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "uploads")
	s.Put(t, "uploads", "complete", 10)
	core := minio.Core{Client: s.Client()}
	want := map[string]int64{}
	for i, key := range []string{"models/a b", "models/ä+%", "other"} {
		id, err := core.NewMultipartUpload(t.Context(), "uploads", key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for part := 1; part <= 2; part++ {
			content := bytes.Repeat([]byte("x"), 5<<20+i)
			if _, err := core.PutObjectPart(t.Context(), "uploads", key, id, part, bytes.NewReader(content), int64(len(content)), minio.PutObjectPartOptions{}); err != nil {
				t.Fatal(err)
			}
			want[key] += int64(len(content))
		}
	}
	o := newOpener(t)
	survey, err := o.Survey(t.Context(), bucketOf(s, "uploads"))
	if err != nil || survey.Incomplete != nil {
		t.Fatalf("%+v, %v", survey, err)
	}
	if diff := cmp.Diff([]source.Listing{source.Objects, source.Uploads}, survey.Listings); diff != "" {
		t.Errorf("listings (-want +got):\n%s", diff)
	}
	b := bucketOf(s, "uploads")
	b.What = source.Uploads
	if diff := cmp.Diff(want, drain(t, o, b, 1)); diff != "" {
		t.Errorf("uploads (-want +got):\n%s", diff)
	}
	b.Prefix = "models/"
	delete(want, "other")
	if diff := cmp.Diff(want, drain(t, o, b, 1)); diff != "" {
		t.Errorf("uploads below a prefix (-want +got):\n%s", diff)
	}
}

// sums is a page for the engine, and what it comes to.
type sums struct{ objects, bytes int64 }

func (s *sums) Reset()               { *s = sums{} }
func (s *sums) Count(e source.Entry) { s.objects, s.bytes = s.objects+1, s.bytes+e.Size }

// TestEngineOnARealServer counts a bucket with sixteen workers.
func TestEngineOnARealServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "many")
	var want, got sums
	for i := range 12_000 {
		key := fmt.Sprintf("team/%02d/é f%05d", i%20, i)
		s.Write(t, "many", key, int64(i))
		want.Count(source.Entry{Size: int64(i)})
	}
	o, spans := newOpener(t), 0
	e := engine.New(engine.All(), engine.Options{
		Open:    spansOf(o, bucketOf(s, "many")),
		NewPage: func() engine.Page { return &sums{} },
		Add: func(p engine.Page, st source.Step, _ source.Source, _ func() engine.Work) error {
			got.objects += p.(*sums).objects
			got.bytes += p.(*sums).bytes
			if st.Done {
				spans++
			}
			return nil
		},
		Spent: func(int64) {}, Forget: func() { t.Error("the server was taken for one without order") },
		Workers: 16, Retries: 3,
	})
	if err := e.Run(t.Context()); err != nil || got != want {
		t.Errorf("counted %+v, the truth is %+v; error %v", got, want, err)
	}
	if spans < 2 {
		t.Errorf("the bucket was counted in %d span", spans)
	}
}

// classes is a page for the engine, and what it comes to by class.
type classes struct{ current, noncurrent, objects int64 }

func (c *classes) Reset() { *c = classes{} }

func (c *classes) Count(e source.Entry) {
	if e.Class == source.Noncurrent {
		c.noncurrent += e.Size
		return
	}
	c.objects++
	c.current += e.Size
}

// TestVersionsOfARealServer overwrites and deletes objects, and counts what is
// left of them, in one go and by eight workers.
func TestVersionsOfARealServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "versions")
	if err := s.Client().EnableVersioning(t.Context(), "versions"); err != nil {
		t.Fatal(err)
	}
	var want classes
	for i := range 300 {
		key := fmt.Sprintf("team/%d/ö %03d", i%7, i)
		for version := 0; version <= i%4; version++ {
			s.Put(t, "versions", key, 10+i+version)
			if version < i%4 || i%5 == 0 {
				want.noncurrent += int64(10 + i + version)
			}
		}
		if i%5 == 0 {
			if err := s.Client().RemoveObject(t.Context(), "versions", key, minio.RemoveObjectOptions{}); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want.Count(source.Entry{Size: int64(10 + i + i%4)})
	}
	o := newOpener(t)
	survey, err := o.Survey(t.Context(), bucketOf(s, "versions"))
	if err != nil || survey.Incomplete != nil || survey.Listings[0] != source.Versions {
		t.Fatalf("%+v, %v", survey, err)
	}
	for _, workers := range []int{1, 8} {
		var got classes
		work := engine.All(source.Versions).CutAt([][]byte{[]byte("team/2/ö 100"), []byte("team/4/gone")})
		e := engine.New(work, engine.Options{
			Open:    spansOf(o, bucketOf(s, "versions")),
			NewPage: func() engine.Page { return &classes{} },
			Add: func(p engine.Page, _ source.Step, _ source.Source, _ func() engine.Work) error {
				page := p.(*classes)
				got.current += page.current
				got.noncurrent += page.noncurrent
				got.objects += page.objects
				return nil
			},
			Spent: func(int64) {}, Forget: func() { t.Error("the server lists in no order") }, Workers: workers,
		})
		if err := e.Run(t.Context()); err != nil || got != want {
			t.Errorf("%d workers: %+v, %v; the truth is %+v", workers, got, err, want)
		}
	}
}
