package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// keyWait is how long a read of the keyboard waits, in tenths of a second: so long it takes
// to end.
const keyWait = 1

// terminalKeys are what is typed at the terminal that is standard input, as it is typed, and
// a value for each change of its size. Without a terminal there are no keys. restore puts
// the terminal back and is to be called.
func terminalKeys(ctx context.Context) (keys <-chan key, resized <-chan os.Signal, restore func()) {
	sizes := make(chan os.Signal, 1)
	signal.Notify(sizes, syscall.SIGWINCH)
	fd := int(os.Stdin.Fd())
	was, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, sizes, func() { signal.Stop(sizes) }
	}
	now := *was
	now.Lflag &^= unix.ICANON | unix.ECHO // Ctrl-C stays a signal
	now.Cc[unix.VSUSP] = 0                // who is suspended leaves the terminal as it is
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 0, keyWait
	// In the background this waits (SIGTTOU) until it is in the foreground.
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &now); err != nil {
		return nil, sizes, func() { signal.Stop(sizes) }
	}
	ctx, cancel := context.WithCancel(ctx)
	typed := make(chan key)
	var reader sync.WaitGroup
	reader.Go(func() {
		b := make([]byte, 64)
		for ctx.Err() == nil {
			n, err := unix.Read(fd, b)
			if err != nil && err != unix.EINTR && err != unix.EAGAIN {
				return
			}
			for _, k := range keysIn(string(b[:max(n, 0)])) {
				select {
				case typed <- k:
				case <-ctx.Done():
				}
			}
		}
	})
	return typed, sizes, func() {
		cancel()
		reader.Wait()
		signal.Stop(sizes)
		_ = unix.IoctlSetTermios(fd, unix.TCSETSF, was)
	}
}

// keysIn are the keys of what a terminal has sent, as far as they mean something here.
func keysIn(text string) (keys []key) {
	for text != "" {
		n := 1
		for _, x := range []struct {
			sent string
			key  key
		}{
			{"\x1b[A", keyUp}, {"\x1bOA", keyUp}, {"k", keyUp}, {"\x1b[B", keyDown}, {"\x1bOB", keyDown}, {"j", keyDown},
			{"\x1b[5~", keyPageUp}, {"\x1b[6~", keyPageDown}, {" ", keyPageDown},
			{"\x1b[H", keyHome}, {"\x1bOH", keyHome}, {"\x1b[1~", keyHome}, {"\x1b[F", keyEnd}, {"\x1bOF", keyEnd}, {"\x1b[4~", keyEnd},
			{"q", keyQuit}, {"Q", keyQuit},
		} {
			if len(text) >= len(x.sent) && text[:len(x.sent)] == x.sent {
				keys, n = append(keys, x.key), len(x.sent)
				break
			}
		}
		text = text[n:]
	}
	return keys
}
