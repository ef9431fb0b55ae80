package s3server_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"github.com/purserhq/purser/internal/s3server"
	"github.com/purserhq/purser/internal/s3server/s3servertest"
)

func TestMain(m *testing.M) { s3servertest.Main(m) }

func TestServerKeepsObjects(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	s.CreateBucket(t, "data")
	s.Put(t, "data", "put/a b+c%.txt", 7)
	s.Write(t, "data", "written/large", 1<<40)
	sizes := map[string]int64{}
	for o := range s.Client().ListObjects(t.Context(), "data", minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		sizes[o.Key] = o.Size
	}
	if len(sizes) != 2 || sizes["put/a b+c%.txt"] != 7 || sizes["written/large"] != 1<<40 {
		t.Errorf("the bucket holds %v", sizes)
	}
}

func TestKeysAreNotVisible(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	for _, file := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.PID(), file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(content), s.Secret.Expose()) {
			t.Errorf("the secret is in %s of the child", file)
		}
	}
}

func TestStopEndsTheServer(t *testing.T) {
	t.Parallel()
	s := s3servertest.Start(t)
	if err := s.Stop(); err != nil {
		t.Fatalf("Stop() = %v: %s", err, s.Output())
	}
	<-s.Done()
	if response, err := http.Get(s.Endpoint); err == nil { //nolint:noctx // nothing answers
		_ = response.Body.Close()
		t.Error("the server still answers")
	}
}

func TestRunChildWantsToBeTold(t *testing.T) {
	t.Parallel()
	if err := s3server.RunChild(t.Context(), strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "purser's own use") {
		t.Errorf("RunChild without input = %v", err)
	}
}

func TestStartSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	_, err := s3server.Start(context.Background(), func() *exec.Cmd { return exec.Command("false") },
		s3server.Options{Root: t.TempDir(), Listen: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "start the S3 server") {
		t.Errorf("Start of a command that fails = %v", err)
	}
}
