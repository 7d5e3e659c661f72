package proc

import (
	"os"
	"testing"
)

func TestSpareThreads(t *testing.T) {
	threads := func() int {
		all, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	const n = 40 // more than any other test has left
	SpareThreads(n)
	if got := threads(); got < n {
		t.Errorf("there are %d threads", got)
	}
	was := threads()
	SpareThreads(n)
	if got := threads(); got > was+2 {
		t.Errorf("they are made again: %d, then %d", was, got)
	}
}
