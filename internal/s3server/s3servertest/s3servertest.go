// Package s3servertest gives tests a real S3 server: a child process made from
// the test binary itself, on a free loopback port, with a directory of its own.
//
// A package that uses it needs
//
//	func TestMain(m *testing.M) { s3servertest.Main(m) }
package s3servertest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/s3server"
)

// childVariable marks the process that is to be a server instead of a test.
const childVariable = "PURSER_TEST_S3_SERVER"

// Main is TestMain: it runs the tests, or the server if Start began this
// process. It does not return.
func Main(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

// Child is for a TestMain that has more to do: it is the server, and does not
// return, if Start began this process.
func Child() {
	if os.Getenv(childVariable) != "" {
		s3server.ChildMain()
	}
}

// Server is a running server. All of its fields are set.
type Server struct {
	Endpoint  string // http://127.0.0.1:PORT
	AccessKey string
	Secret    purser.Secret
	Region    string
	// Root holds the buckets as directories.
	Root string

	*s3server.Process
	client *minio.Client
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{AccessKey: "AKTESTTESTTEST", Secret: purser.NewSecret("secretsecretsecret"), Region: "us-east-1", Root: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.Process, err = s3server.Start(t.Context(), func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), childVariable+"=1")
		return cmd
	}, s3server.Options{Root: s.Root, Versions: t.TempDir(), Listen: "127.0.0.1:0", AccessKey: s.AccessKey, Secret: s.Secret, Region: s.Region})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop the S3 server: %v: %s", err, s.Output())
		}
	})
	s.Endpoint = s.Process.Endpoint()
	s.client, err = minio.New(s.Endpoint[len("http://"):], &minio.Options{
		Creds: credentials.NewStaticV4(s.AccessKey, s.Secret.Expose(), ""), Region: s.Region,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Client speaks to the server with all rights.
func (s *Server) Client() *minio.Client { return s.client }

// CreateBucket creates an empty bucket.
func (s *Server) CreateBucket(t testing.TB, bucket string) {
	t.Helper()
	if err := s.client.MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{Region: s.Region}); err != nil {
		t.Fatal(err)
	}
}

// Put stores an object of size bytes over S3: slow, and right for any key that
// the server takes.
func (s *Server) Put(t testing.TB, bucket, key string, size int) {
	t.Helper()
	body := bytes.NewReader(make([]byte, size))
	if _, err := s.client.PutObject(t.Context(), bucket, key, body, int64(size), minio.PutObjectOptions{}); err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

// Write stores an object by putting a sparse file into the bucket's directory:
// thousands in a moment, without blocks on the disk. key must be a plain path.
func (s *Server) Write(t testing.TB, bucket, key string, size int64) {
	t.Helper()
	path := filepath.Join(s.Root, bucket, filepath.FromSlash(key))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
