package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// sidePaths makes a Unix socket and a pid file, as programs do that count on being alone:
// they take the place of whoever had them, and remove them by name when they end.
func sidePaths(socket, pidFile string) {
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket)
	check(err)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	check(os.WriteFile(pidFile, fmt.Appendln(nil, os.Getpid()), 0o644))
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		_ = os.Remove(socket)
		_ = os.Remove(pidFile)
		os.Exit(0)
	}()
}

// runItself starts the program again, as those do that have a process for each core: by the
// name that it was started with.
func runItself(when string) {
	for _, err := os.Stat(when); err != nil; _, err = os.Stat(when) {
		time.Sleep(time.Millisecond)
	}
	cmd := exec.Command(os.Args[0], "never-binds", "")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	check(cmd.Start())
}
