package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// say sends a text and a descriptor by sd_notify, if that does not have to wait.
func say(text string, fd int) (sent bool) {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(c)
	defer func() { go unix.Close(fd) }() // if the receiver has closed its own already, this one hangs
	err = unix.Sendmsg(c, []byte(text), unix.UnixRights(fd), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, unix.MSG_DONTWAIT)
	if err != unix.EAGAIN {
		check(err)
	}
	return err == nil
}

// hanging is a Unix socket that is not closed before a TCP socket is that is queued in
// it. That one waits for data to be acknowledged, for as long as this process lives, but
// for 120 s at most.
func hanging() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	c, err := net.Dial("tcp", l.Addr().String())
	check(err)
	peer, err := l.Accept()
	check(err)
	_ = l.Close()
	peers = append(peers, peer)
	_ = peer.(*net.TCPConn).SetReadBuffer(1 << 10)
	_ = c.(*net.TCPConn).SetWriteBuffer(1 << 10)
	check(c.(*net.TCPConn).SetLinger(120))
	_ = c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	_, _ = c.Write(make([]byte, 1<<22))
	f, err := c.(*net.TCPConn).File()
	check(err)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.Sendmsg(fds[0], []byte("x"), unix.UnixRights(int(f.Fd())), nil, 0))
	_ = unix.Close(fds[0])
	_ = f.Close()
	_ = c.Close() // it is not the last one
	return fds[1]
}

var peers []net.Conn

// hangControl has whoever closes what comes by the control socket hang: before a hello,
// with a message that has no use for it, with one that has, and queued.
func hangControl() {
	dial := func() int {
		c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		check(err)
		check(unix.Connect(c, &unix.SockaddrUnix{Name: os.Getenv("MASTERD_CONTROL")}))
		return c
	}
	send := func(c int, text string) {
		fd := hanging()
		_ = unix.Sendmsg(c, []byte(text), unix.UnixRights(fd), nil, unix.MSG_DONTWAIT)
		go func() { _ = unix.Close(fd) }() // it may be the last one, and hang
	}
	for range 3 {
		c := dial()
		send(c, "{}")
		send(c, "{}")
	}
	hello := fmt.Sprintf(`{"type":"hello","hello":{"min":1,"max":1,"worker":%s,"generation":%s,"secret":%q,"pid":%d,"sdk":"hostile","state":"new"}}`,
		os.Getenv("MASTERD_WORKER"), os.Getenv("MASTERD_GENERATION"), os.Getenv("MASTERD_SECRET"), os.Getpid())
	for _, text := range []string{`{"type":"ready"}`, `{"type":"keep","seq":1,"blob":{"name":"a","size":1}}`} {
		c := dial()
		_, err := unix.Write(c, []byte(hello))
		check(err)
		send(c, text)
		send(c, text)
	}
	log.Print("has turned")
}
