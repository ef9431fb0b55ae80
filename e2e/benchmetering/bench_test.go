package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCounts reads what the programs print.
func TestCounts(t *testing.T) {
	t.Parallel()
	b := bench{purser: "purser", rclone: "rclone", mc: "mc", s5cmd: "s5cmd", aws: "aws", du: "du", gdu: "gdu", slow: true}
	contenders := map[string]contender{}
	all := append(b.ourBucket("http://host", "bench", 1), b.bucketPeers("http://host", "bench")...)
	for _, c := range append(all, b.ofTree("/tree", directories{})...) {
		contenders[c.name] = c
	}
	for _, test := range []struct {
		program, output string
		want            total
	}{
		{"purser du --ranges 1", `{"bytes":"12345678901234","objects":17,"requests":1,"seconds":0.1}`, total{17, 12345678901234}},
		{"purser du", "{\n  \"bytes\": 5,\n  \"objects\": 2\n}\n", total{2, 5}},
		{"rclone size", `{"count":3,"bytes":9,"sizeless":0}`, total{3, 9}},
		{"rclone size --disable ListR --checkers 16", `{"count":3,"bytes":9,"sizeless":0}`, total{3, 9}},
		{"mc du", `{"prefix":"bench/a","size":1,"objects":1,"status":"success"}` + "\n" + `{"prefix":"bench","size":4,"objects":3,"status":"success"}`, total{3, 4}},
		{"s5cmd du", `{"source":"s3://bench/*","count":3,"size":4}`, total{3, 4}},
		{"aws s3 ls --recursive --summarize", "2024-01-01 00:00:00 4 a key\n\nTotal Objects: 3\n   Total Size: 4\n", total{3, 4}},
		{"GNU du", "4711\t/tree\n", total{-1, 4711}},
		{"gdu", "   4711 tree\n", total{-1, 4711}},
	} {
		c, known := contenders[test.program]
		if !known {
			t.Errorf("no contender %q", test.program)
			continue
		}
		if got, err := c.count([]byte(test.output)); err != nil || got != test.want {
			t.Errorf("%s says %+v, %v; want %+v", test.program, got, err, test.want)
		}
		if _, err := c.count([]byte("no such bucket")); err == nil {
			t.Errorf("%s: an error message is taken for a result", test.program)
		}
	}
	if len(contenders) != 9 {
		t.Errorf("%d contenders", len(contenders))
	}
}

// TestTreesHoldWhatTheySay counts each kind of tree by walking it.
func TestTreesHoldWhatTheySay(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(*tree, int) error{"nested": nested, "wide": wide, "linked": linked} {
		made := tree{root: filepath.Join(t.TempDir(), "tree")}
		if err := build(&made, 200); err != nil {
			t.Fatal(err)
		}
		var found total
		var names int
		var beside directories
		seen := map[uint64]bool{}
		err := filepath.WalkDir(made.root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err != nil {
				return err
			}
			if d.IsDir() {
				beside.number++
				beside.bytes += info.Size()
				return nil
			}
			names++
			if inode := info.Sys().(*syscall.Stat_t).Ino; !seen[inode] {
				seen[inode] = true
				found.objects, found.bytes = found.objects+1, found.bytes+info.Size()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(made.total, found, cmp.AllowUnexported(total{})); diff != "" || names != 200 {
			t.Errorf("%s has %d names (-says +holds):\n%s", name, names, diff)
		}
		if got, err := made.directories(); err != nil || got != beside {
			t.Errorf("%s: directories are %+v, not %+v (%v)", name, got, beside, err)
		}
	}
}

// TestTheBestPeer keeps our own rows and faulty ones out of the race.
func TestTheBestPeer(t *testing.T) {
	t.Parallel()
	rows := []row{
		{contender: contender{name: "ours", ours: true}, runs: []run{{lists: 1}, {lists: 3}}},
		{contender: contender{name: "wrong"}, fault: "it cannot count", runs: nil},
		{contender: contender{name: "slow"}, runs: []run{{lists: 30}, {lists: 10}, {lists: 20}}},
		{contender: contender{name: "good"}, runs: []run{{lists: 9}}},
	}
	lists := func(r run) float64 { return float64(r.lists) }
	if got := against(rows[0], rows, lists); got != "4.5 (good)" {
		t.Errorf("against() = %s", got)
	}
	if got := rows[2].cell(lists); got != "20 (10)" {
		t.Errorf("cell() = %s", got)
	}
	if got := against(rows[0], rows[:2], lists); got != "no peer" {
		t.Errorf("against() without peers = %s", got)
	}
}
