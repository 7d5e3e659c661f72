package main

import (
	"bufio"
	"fmt"
	"os"
	"syscall"
	"time"
)

// leakFile keeps a file open, for ever.
func (f *faults) leakFile() {
	if _, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0); err != nil {
		fmt.Fprintln(os.Stderr, "demo-worker: no file can be leaked any more:", err)
	}
}

// leak keeps more and more of what it was told to, each second, for ever.
func (f *faults) leak() {
	var memory [][]byte
	err := bufio.NewWriterSize(os.Stderr, 4<<10)
	for line := 0; ; {
		begun := time.Now()
		for range f.leakMemory {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4 << 10 {
				b[i] = 1 // untouched memory would not count
			}
			memory = append(memory, b)
		}
		for range f.logFlood {
			line++
			fmt.Fprintf(err, "demo-worker: line %d of a flood, with %d MiB leaked\n", line, len(memory))
		}
		err.Flush()
		time.Sleep(time.Until(begun.Add(time.Second)))
	}
}
