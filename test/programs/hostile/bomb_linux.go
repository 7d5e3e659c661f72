package main

import (
	"os"
	"syscall"
	"time"
)

// bomb starts processes for ever.
func bomb() {
	for {
		if _, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "1000"}, &syscall.ProcAttr{Env: os.Environ()}); err != nil {
			time.Sleep(10 * time.Millisecond) // it is about processes, not about the processors
		}
	}
}
