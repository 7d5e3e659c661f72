package main

import (
	"io"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func notify(text string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, text)
}

// feed its watchdog until it forgets to.
func feed(until time.Time) {
	for time.Now().Before(until) {
		notify("WATCHDOG=1")
		time.Sleep(20 * time.Millisecond)
	}
}

// store has a descriptor kept, with a name, and waits until that is done.
func store(f *os.File) {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(c)
	check(unix.Sendmsg(c, []byte("FDSTORE=1\nFDNAME=legacy"), unix.UnixRights(int(f.Fd())), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0))
	barrier()
}

// barrier waits until all that was said by sd_notify is done.
func barrier() {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(c)
	r, w, err := os.Pipe()
	check(err)
	check(unix.Sendmsg(c, []byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0))
	_ = w.Close()
	_, _ = r.Read(make([]byte, 1)) // the end of it
}
