package seal

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/purserhq/purser"
)

// A key file is one line, with or without its line break:
//
//	purser-seal-key-v1:<32 random bytes in base64>
const (
	keyFormat       = "purser-seal-key-v"
	keyPrefix       = keyFormat + "1:"
	keySize         = 32
	encodedKeySize  = 44
	keyFileMaxBytes = 1024 // far more than a key file of any version needs
)

// strictBase64 refuses padding bits that are not zero: one key, one spelling.
var strictBase64 = base64.StdEncoding.Strict()

// readKeyFile returns the key in the file; fs.ErrNotExist if there is none.
// Symbolic links are followed: that is how secrets are mounted into containers.
func readKeyFile(path string) ([]byte, error) {
	// Without O_NONBLOCK a pipe would make the start wait for a writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, cannotRead(path, err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, cannotRead(path, err)
	case !info.Mode().IsRegular():
		return nil, startError("the key file %s is not a regular file; name another with --seal-key-file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, startError("the key file %s can be read or changed by other users; run: chmod 600 %s", path, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, keyFileMaxBytes))
	if err != nil {
		return nil, cannotRead(path, err)
	}
	return parseKeyFile(path, string(text))
}

func parseKeyFile(path, text string) ([]byte, error) {
	encoded, found := strings.CutPrefix(strings.TrimSuffix(text, "\n"), keyPrefix)
	if !found && strings.HasPrefix(text, keyFormat) && strings.Contains(text, ":") {
		return nil, startError("the key file %s has a format that this version of purser does not know; run the version that wrote it, or a newer one", path)
	}
	key, err := strictBase64.DecodeString(encoded)
	if !found || err != nil || len(encoded) != encodedKeySize || len(key) != keySize {
		// The cause is not kept: it may tell of the key.
		return nil, startError("the key file %s does not hold a whole key: it is damaged, cut short or another file; restore it from your backup", path)
	}
	return key, nil
}

// createKeyFile makes a key file with a fresh key, or fails with fs.ErrExist if
// there is one, whoever made it. The file appears whole or not at all, and has
// survived a power cut when the key is used first: what is sealed by a lost key
// is lost too.
func createKeyFile(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return cannotWrite(path, err)
	}
	temporary, err := writeTemporary(dir)
	if err != nil {
		return cannotWrite(path, err)
	}
	err = os.Link(temporary, path) // unlike a rename it never replaces a file
	_ = os.Remove(temporary)       // a leftover harms nobody
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if err == nil {
		err = syncDir(dir)
	}
	return cannotWrite(path, err)
}

// writeTemporary writes a fresh key to a file of its own, mode 0600.
func writeTemporary(dir string) (name string, err error) {
	f, err := os.CreateTemp(dir, ".seal-key-*")
	if err != nil {
		return "", err
	}
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: the runtime ends the process instead
	_, err = f.WriteString(keyPrefix + strictBase64.EncodeToString(key) + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// startError is a sentence for the person who starts the server.
func startError(format string, args ...any) error {
	return &purser.Error{Kind: purser.KindUnavailable, Op: "seal.Open", Message: fmt.Sprintf(format, args...)}
}

func cannotRead(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		uid := os.Getuid()
		return startError("the key file %s cannot be read by this server's user (uid %d); run: chown %d %s", path, uid, uid, path)
	}
	return startError("the key file %s cannot be read: %v", path, cause(err))
}

func cannotWrite(path string, err error) error {
	if err == nil {
		return nil
	}
	return startError("the key file %s cannot be made: %v; name a place for it with --seal-key-file", path, cause(err))
}

// cause returns what the system said, without the paths around it.
func cause(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
