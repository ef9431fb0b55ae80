package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLooksAtTheSources opens every file that the program is built from. go test
// gives a stored result again while nothing has changed that the test has
// opened, and it does not know that these tests build the program.
func TestLooksAtTheSources(t *testing.T) {
	t.Parallel()
	built := []string{".go", ".sql", ".json", ".mod", ".sum"}
	files := 0
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains([]string{".git", "bin", "e2e", "tools", "docs"}, d.Name()):
			return filepath.SkipDir
		case d.IsDir(), strings.HasSuffix(path, "_test.go"), !slices.Contains(built, filepath.Ext(path)):
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		files++
		return f.Close()
	})
	if err != nil || files < 100 {
		t.Errorf("%d files, error %v", files, err)
	}
}
