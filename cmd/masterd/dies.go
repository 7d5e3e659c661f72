//go:build masterd_dies

package main

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// effect gives what makes a masterd that is built with the tag masterd_dies kill
// itself, as kill -9 does, just before the n-th command of its rollout machine
// since it started. The end-to-end tests walk through all of a rollout's with it.
// The number is in the file that MASTERD_DIES_AT names, and -1 is written there
// when it comes to it: the master after it lives. A type after the number: only
// commands of it count.
func effect() func(command string) {
	file := os.Getenv("MASTERD_DIES_AT")
	if file == "" {
		return nil
	}
	var count atomic.Int64
	return func(command string) {
		text, err := os.ReadFile(file)
		if err != nil {
			return
		}
		number, only, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || n < 0 || only != "" && only != command {
			return
		}
		if count.Add(1) > n {
			_ = os.WriteFile(file, []byte("-1"), 0o600)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
}
