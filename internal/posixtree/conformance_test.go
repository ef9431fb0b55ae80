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
	t.Run("as served", func(t *testing.T) { t.Parallel(); sourcetest.Run(t, harness(New(nil))) })
	t.Run("in small steps and parts", func(t *testing.T) {
		t.Parallel()
		o := New(nil)
		o.stepNames, o.partNames = 300, 40
		sourcetest.Run(t, harness(o))
	})
}

func harness(o *Opener) sourcetest.Harness {
	return sourcetest.Harness{
		Make: func(t testing.TB, entries map[string]int64) sourcetest.Open {
			root := scratch(t)
			for key, size := range entries {
				writeFile(t, filepath.Join(root, key), size)
			}
			return func(ctx context.Context, cursor []byte) (source.Source, error) {
				return o.Open(ctx, source.Tree{Root: root}, cursor)
			}
		},
	}
}
