package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/worker"
)

func aloneWorker() *worker.Worker { return worker.New(worker.Options{IgnoreSignals: true}) }

// Two lists with one keeper, as two versions are: both add at once, neither
// loses an item, and each item is there once, in the order of its answers.
func TestListOfSeveral(t *testing.T) {
	w := aloneWorker()
	lists := []*list{newList(w), newList(w)}
	const writers, each = 8, 50
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				item := fmt.Sprintf("%d/%d", i, n)
				items, err := lists[i%2].do(item)
				if err != nil || !slices.Contains(items, item) {
					t.Errorf("%s was answered with %d items, %v", item, len(items), err)
				}
			}
		})
	}
	wg.Wait()
	items, err := lists[0].do()
	if err != nil || len(items) != writers*each {
		t.Fatalf("%d items of %d, %v", len(items), writers*each, err)
	}
	for i := range writers {
		for n := range each - 1 {
			if slices.Index(items, fmt.Sprintf("%d/%d", i, n)) >= slices.Index(items, fmt.Sprintf("%d/%d", i, n+1)) {
				t.Errorf("item %d of writer %d is not in its place", n, i)
			}
		}
	}
}

func TestListForgetsItsOldest(t *testing.T) {
	many := make([]string, maxItems+3)
	many[3] = "the oldest"
	if got := trim(many); len(got) != maxItems || got[0] != "the oldest" {
		t.Errorf("%d items from %q", len(got), got[0])
	}
	large := slices.Repeat([]string{strings.Repeat("x", maxItem)}, maxList/maxItem+2)
	if got := trim(large); len(got) != maxList/maxItem {
		t.Errorf("%d items of %d", len(got), len(large))
	}
	if got := trim([]string{}); got == nil || len(got) != 0 {
		t.Errorf("%v", got)
	}
}

// What another program has put there is not overwritten.
func TestListOfAnotherForm(t *testing.T) {
	w := aloneWorker()
	if err := w.Keep(t.Context(), listName, []byte(`{"version":2}`)); err != nil {
		t.Fatal(err)
	}
	l := newList(w)
	if _, err := l.do("x"); err == nil {
		t.Error("added to what is no list")
	}
	if b, err := w.Kept(t.Context(), listName); string(b) != `{"version":2}` || errors.Is(err, worker.ErrNotKept) {
		t.Errorf("it is %q now, %v", b, err)
	}
}
