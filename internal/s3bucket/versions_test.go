package s3bucket

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/purserhq/purser/internal/metering/source"
)

func TestSurvey(t *testing.T) {
	t.Parallel()
	state := func(status string) http.HandlerFunc {
		return write(`<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` + status + "</VersioningConfiguration>")
	}
	only := func(query string, then http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has(query) {
				then(w, r)
				return
			}
			s3Error(http.StatusForbidden, "AccessDenied")(w, r)
		}
	}
	plain := []source.Listing{source.Objects, source.Uploads}
	all := []source.Listing{source.Versions, source.Uploads}
	for _, c := range []struct {
		name       string
		handler    http.HandlerFunc
		want       []source.Listing
		incomplete bool
		code       string
	}{
		{"never versioned", state(""), plain, false, ""},
		{"versioned", state("<Status>Enabled</Status>"), all, false, ""},
		{"versioned once", state("<Status>Suspended</Status>"), all, false, ""},
		{"only versions may be listed", only("versions", write("<ListVersionsResult>"+complete+"</ListVersionsResult>")), all, false, ""},
		{"nothing may be found out", s3Error(http.StatusForbidden, "AccessDenied"), plain, true, ""},
		{"a server without versions", s3Error(http.StatusNotImplemented, "NotImplemented"), plain, false, ""},
		{"a server that takes it for a method", s3Error(http.StatusMethodNotAllowed, "MethodNotAllowed"), plain, false, ""},
		{"no such bucket", s3Error(http.StatusNotFound, "NoSuchBucket"), nil, false, source.CodeNoSuchBucket},
		{"a failure", s3Error(http.StatusInternalServerError, "InternalError"), nil, false, source.CodeServerError},
		{"a failure in a 200", s3Error(http.StatusOK, "InternalError"), nil, false, source.CodeServerError},
		{"a web site", write("<html></html>"), nil, false, source.CodeNotS3},
		{"a server that lists, whatever it is asked", write(listing(complete + entry("a", "1"))), plain, false, ""},
		{"an answer that breaks off", write("<VersioningConfiguration><Status>"), nil, false, source.CodeBadListing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := newOpener(t).Survey(t.Context(), bucketAt(serve(t, c.handler)))
			if c.code != "" {
				wantError(t, err, c.code, c.code == source.CodeServerError)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Listings); diff != "" || (got.Incomplete != nil) != c.incomplete || got.Requests == 0 {
				t.Errorf("%+v\n%s", got, diff)
			}
		})
	}
}

// TestUploads counts what no listing of objects shows.
func TestUploads(t *testing.T) {
	t.Parallel()
	page := func(truncated bool, next string, uploads ...string) string {
		var b strings.Builder
		for _, u := range uploads {
			key, id, _ := strings.Cut(u, ":")
			fmt.Fprintf(&b, "<Upload><Key>%s</Key><UploadId>%s</UploadId><Initiator><ID>x</ID></Initiator></Upload>", key, id)
		}
		return fmt.Sprintf("<ListMultipartUploadsResult><EncodingType>url</EncodingType><IsTruncated>%t</IsTruncated>%s%s</ListMultipartUploadsResult>", truncated, next, b.String())
	}
	server := func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case q.Has("uploads") && q.Get("prefix") != "": // as MinIO has it: no key is exactly that
			_, _ = fmt.Fprint(w, page(false, ""))
		case q.Has("uploads") && q.Get("key-marker") == "":
			_, _ = fmt.Fprint(w, page(true, "<NextKeyMarker>b+c</NextKeyMarker><NextUploadIdMarker>2</NextUploadIdMarker>", "a:1", "b+c:2"))
		case q.Has("uploads") && q.Get("key-marker") == "b c" && q.Get("upload-id-marker") == "2":
			_, _ = fmt.Fprint(w, page(false, "", "gone:3", "empty:4"))
		case q.Get("uploadId") == "1" && q.Get("part-number-marker") == "":
			_, _ = fmt.Fprint(w, "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker><Part><Size>5</Size></Part><Part><Size>6</Size></Part></ListPartsResult>")
		case q.Get("uploadId") == "1" && q.Get("part-number-marker") == "2":
			_, _ = fmt.Fprint(w, "<ListPartsResult><IsTruncated>false</IsTruncated><Part><Size>7</Size></Part></ListPartsResult>")
		case q.Get("uploadId") == "2" && r.URL.Path == "/bucket/b c":
			_, _ = fmt.Fprint(w, "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>1</PartNumber><Size>100</Size></Part></ListPartsResult>")
		case q.Get("uploadId") == "4":
			_, _ = fmt.Fprint(w, "<ListPartsResult><IsTruncated>false</IsTruncated></ListPartsResult>")
		default:
			s3Error(http.StatusNotFound, "NoSuchUpload")(w, r)
		}
	}
	b := bucketAt(serve(t, server))
	b.What = source.Uploads
	o := newOpener(t)
	for prefix, want := range map[string]map[string]int64{"": {"a": 18, "b c": 100}, "b": {"b c": 100}} {
		b.Prefix = prefix
		found, cursor := map[string]int64{}, []byte(nil)
		for range 5 { // each step in a source of its own
			src := open(t, o, b, cursor)
			st, err := src.Step(context.Background(), func(e source.Entry) {
				if e.Class != source.Unfinished {
					t.Errorf("%q is of class %d", e.Key, e.Class)
				}
				found[string(e.Key)] = e.Size
			})
			if err != nil {
				t.Fatal(err)
			}
			if st.Done {
				break
			}
			cursor = src.Cursor()
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("below %q: %s", prefix, diff)
		}
	}

	for _, c := range []struct {
		name       string
		handler    http.HandlerFunc
		incomplete bool
		code       string
	}{
		{"may not be listed", s3Error(http.StatusForbidden, "AccessDenied"), true, ""},
		{"of a server that lists, whatever it is asked", write(listing(complete + entry("a", "1"))), false, ""},
		{"that are a web site", write("<html></html>"), false, source.CodeNotS3},
		{"refused in a 200", s3Error(http.StatusOK, "InvalidAccessKeyId"), false, source.CodeBadCredentials},
		{"whose parts are a listing", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("uploads") {
				_, _ = fmt.Fprint(w, page(false, "", "a:1"))
				return
			}
			write(listing(complete))(w, r)
		}, false, source.CodeBadListing},
		{"are not known", s3Error(http.StatusNotImplemented, "NotImplemented"), false, ""},
		{"whose parts may not be listed", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("uploads") {
				_, _ = fmt.Fprint(w, page(false, "", "a:1"))
				return
			}
			s3Error(http.StatusForbidden, "AccessDenied")(w, r)
		}, true, ""},
		{"without end", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, page(true, "<NextKeyMarker>a</NextKeyMarker>"))
		}, false, source.CodeNoProgress},
		{"cut off", write("<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>"), false, source.CodeBadListing},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := bucketAt(serve(t, c.handler))
			b.What = source.Uploads
			src := open(t, newOpener(t), b, nil)
			for {
				st, err := src.Step(t.Context(), func(source.Entry) {})
				switch {
				case c.code != "" && err != nil:
					wantError(t, err, c.code, false)
					return
				case err != nil:
					t.Fatal(err)
				case st.Done:
					if c.code != "" || (st.Incomplete != nil) != c.incomplete {
						t.Errorf("%+v", st)
					}
					return
				}
			}
		})
	}
}
