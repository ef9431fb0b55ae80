package posixtree

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/purserhq/purser/internal/metering/source"
	"github.com/purserhq/purser/internal/metering/source/sourcetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, sourcetest.Harness{
		Make: func(t testing.TB, entries map[string]int64) sourcetest.Open {
			root := scratch(t)
			for key, size := range entries {
				writeFile(t, filepath.Join(root, key), size)
			}
			return func(ctx context.Context, cursor []byte) (source.Source, error) {
				return New(nil).Open(ctx, source.Tree{Root: root}, cursor)
			}
		},
	})
}
