package main

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/purserhq/purser"
)

// operatorKeyFile is where the first start leaves the operator's key.
const operatorKeyFile = "operator.key"

// writeSecretFile writes a secret to a file that only its owner can read, so
// that after a power cut there is the whole file or none.
func writeSecretFile(path string, secret purser.Secret) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(secret.Expose() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
