package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/purserhq/purser"
	"github.com/purserhq/purser/internal/metering/engine"
	"github.com/purserhq/purser/internal/metering/source"
)

// measurement is what purser du has found so far.
type measurement struct {
	place  string
	survey func(context.Context) (source.Survey, error) // nil if only objects count
	engine *engine.Engine
	took   time.Duration

	// Written by one worker at a time, read by whoever shows progress.
	objects, bytes, requests atomic.Int64

	// Of the workers' own: only one of them adds at a time.
	noncurrent, unfinished int64 // parts of bytes
	folders                *folders
	method                 string
	incomplete             *purser.ScanError
}

// duPage is what one step hands out.
type duPage struct {
	objects, bytes         int64
	noncurrent, unfinished int64 // parts of bytes
	folders                *folders
	skip                   int
}

func (p *duPage) Reset() {
	p.objects, p.bytes, p.noncurrent, p.unfinished = 0, 0, 0, 0
	clear(p.folders.sums)
}

func (p *duPage) Count(e source.Entry) {
	p.bytes += e.Size
	objects := int64(0)
	switch e.Class {
	case source.Noncurrent:
		p.noncurrent += e.Size
	case source.Unfinished:
		p.unfinished += e.Size
	default:
		objects = max(1, e.Objects)
	}
	p.objects += objects
	if p.folders.depth > 0 {
		p.folders.count(e.Key[min(p.skip, len(e.Key)):], objects, e.Size)
	}
}

var errTooMuch = errors.New("the place claims to hold more than can be")

func (m *measurement) add(p engine.Page, step source.Step, from source.Source, _ func() engine.Work) error {
	page := p.(*duPage)
	m.requests.Add(step.Requests)
	m.objects.Add(page.objects)
	if m.bytes.Add(page.bytes) < 0 {
		return errTooMuch
	}
	m.noncurrent += page.noncurrent
	m.unfinished += page.unfinished
	m.folders.merge(page.folders)
	m.method = from.Method()
	if step.Incomplete != nil {
		m.incomplete = step.Incomplete
	}
	return nil
}

func (m *measurement) forget() {
	m.objects.Store(0)
	m.bytes.Store(0)
	m.noncurrent, m.unfinished = 0, 0
	clear(m.folders.sums)
}

// folders are sums by folder, down to a depth.
type folders struct {
	depth int
	skip  int // how much of each key is before the place that is measured
	sums  map[string]folderSum
}

type folderSum struct{ objects, bytes int64 }

func newFolders(depth int) *folders { return &folders{depth: depth, sums: map[string]folderSum{}} }

// count counts an entry for each folder that it is in.
func (f *folders) count(key []byte, objects, size int64) {
	end := 0
	if len(key) > 0 && key[0] == '/' {
		key = key[1:] // the place itself was named without it
	}
	for range f.depth {
		i := bytes.IndexByte(key[end:], '/')
		if i < 0 {
			return
		}
		end += i + 1
		sum := f.sums[string(key[:end])]
		f.sums[string(key[:end])] = folderSum{sum.objects + objects, sum.bytes + size}
	}
}

func (f *folders) merge(other *folders) {
	for folder, s := range other.sums {
		sum := f.sums[folder]
		f.sums[folder] = folderSum{sum.objects + s.objects, sum.bytes + s.bytes}
	}
}

// sorted returns the folders, those that are in others behind them.
func (f *folders) sorted() []string {
	return slices.SortedFunc(maps.Keys(f.sums), func(a, b string) int { return cmp.Compare(a, b) })
}

// duJSON is what --json promises.
type duJSON struct {
	Place      string         `json:"place"`
	Bytes      int64          `json:"bytes"`
	Noncurrent int64          `json:"noncurrent,omitempty"` // of bytes
	Unfinished int64          `json:"unfinished,omitempty"` // of bytes
	Objects    int64          `json:"objects"`
	Requests   int64          `json:"requests"`
	Seconds    float64        `json:"seconds"`
	Method     string         `json:"method"`
	Complete   bool           `json:"complete"`
	Incomplete string         `json:"incomplete,omitempty"`
	Folders    []duFolderJSON `json:"folders,omitempty"`
}

type duFolderJSON struct {
	Folder  string `json:"folder"`
	Bytes   int64  `json:"bytes"`
	Objects int64  `json:"objects"`
}

func (e *environment) printDu(m *measurement) error {
	document := duJSON{
		Place: m.place, Bytes: m.bytes.Load(), Noncurrent: m.noncurrent, Unfinished: m.unfinished, Objects: m.objects.Load(), Requests: m.requests.Load(),
		Seconds: m.took.Seconds(), Method: m.method, Complete: m.incomplete == nil,
	}
	people := newTable(">SIZE", ">OBJECTS", "PLACE")
	for _, folder := range m.folders.sorted() {
		sum := m.folders.sums[folder]
		document.Folders = append(document.Folders, duFolderJSON{folder, sum.bytes, sum.objects})
		people.row(purser.Bytes(sum.bytes).Human(), fmt.Sprint(sum.objects), plain(strings.TrimSuffix(m.place, "/")+"/"+folder))
	}
	if m.survey != nil {
		people.row(purser.Bytes(m.noncurrent).Human(), "", plain(m.place)+" (older versions)")
		people.row(purser.Bytes(m.unfinished).Human(), "", plain(m.place)+" (unfinished uploads)")
	}
	people.row(purser.Bytes(document.Bytes).Human(), fmt.Sprint(document.Objects), plain(m.place))
	if m.incomplete != nil {
		document.Incomplete = m.incomplete.Message
	}
	if err := e.print(document, people); err != nil {
		return err
	}
	if m.incomplete != nil {
		e.say("purser: not everything could be read: %s %s", m.incomplete.Message, m.incomplete.Hint)
		return errSaid
	}
	if !e.json {
		e.say("%s in %s (%s)", several(document.Requests, "request"), m.took.Round(time.Millisecond), m.method)
	}
	return nil
}

// showDu shows people how far it is, if they look; what it returns ends that.
func (e *environment) showDu(m *measurement) (end func()) {
	if e.json || terminal(e.stderr) == nil || e.getenv("TERM") == "dumb" {
		return func() {}
	}
	scan := func() purser.Scan {
		return purser.Scan{
			Source: m.place, State: purser.ScanRunning,
			Objects: m.objects.Load(), Bytes: purser.Bytes(m.bytes.Load()), Requests: m.requests.Load(),
		}
	}
	w := newBarWatcher(e.stderr, []purser.Scan{scan()})
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				return
			case <-ticker.C:
				w.look(0, scan())
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
		w.end()
	}
}
