package main

import (
	"testing"

	"github.com/purserhq/purser"
)

func TestPen(t *testing.T) {
	t.Parallel()
	blocks := pen{levels: []rune("▁▂▃▄▅▆▇█"), gap: '·', width: 8}
	items := func(amounts ...purser.Bytes) (list []purser.HistoryItem) {
		for _, amount := range amounts {
			list = append(list, purser.HistoryItem{Usage: purser.Usage{Model: max(0, amount)}, Complete: amount >= 0})
		}
		return list
	}
	for name, test := range map[string]struct {
		items []purser.HistoryItem
		want  string
	}{
		"nothing":                           {nil, ""},
		"nothing stored":                    {items(0, 0, 0), "▁▁▁"},
		"growth":                            {items(0, 1, 200, 400, 600, 800, 900, 1000), "▁▂▃▄▆▇██"},
		"a gap, wherever it is":             {items(-1, 5, -1, -1, 5, -1), "·█··█·"},
		"twice as much as fits":             {items(0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 7), "▂▃▄▅▆▇██"},
		"a gap among others":                {items(7, 7, 7, -1, 7, 7, 7, 7, -1, 7, 7, 7, 7, 7, 7, 7), "█·██·███"},
		"a little more than fits":           {items(1, 1, 1, 1, 1, 1, 1, 1, 9), "▂▂▂▂▂▂▂█"},
		"amounts at the end of all numbers": {items(1<<62, 1<<63-1), "▅█"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := blocks.draw(test.items, purser.Usage.Total); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
