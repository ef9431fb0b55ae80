package seal

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
)

// The tests may run as root, who can read everything: so the system's answer is
// made here rather than provoked.
func TestUnreadableKeyFileNamesUserAndCommand(t *testing.T) {
	t.Parallel()
	err := cannotRead("/etc/seal.key", &fs.PathError{Op: "open", Path: "/etc/seal.key", Err: fs.ErrPermission})
	want := fmt.Sprintf("the key file /etc/seal.key cannot be read by this server's user (uid %d); run: chown %d /etc/seal.key", os.Getuid(), os.Getuid())
	if !strings.HasSuffix(err.Error(), want) {
		t.Errorf("the error is %q, want %q", err, want)
	}
}
