package ipc

import (
	"net"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// What is below is fdpass's, and keeps its names here.

// Stream is [fdpass.Stream].
type Stream = fdpass.Stream

// Closing is [fdpass.Closing].
func Closing() (now, most int) { return fdpass.Closing() }

// Hanging is [fdpass.Hanging].
func Hanging() int { return fdpass.Hanging() }

// Discard is [fdpass.Discard].
func Discard(fds ...int) { fdpass.Discard(fds...) }

// DiscardWait is [fdpass.DiscardWait].
func DiscardWait(stop <-chan struct{}, fds ...int) { fdpass.DiscardWait(stop, fds...) }

// DiscardConn is [fdpass.DiscardConn].
func DiscardConn(fd int) { fdpass.DiscardConn(fd) }

// Await is [fdpass.Await].
func Await(stop <-chan struct{}, call func()) bool { return fdpass.Await(stop, call) }

// CloseConn is [fdpass.CloseConn].
func CloseConn(c *net.UnixConn) { fdpass.CloseConn(c) }

// CloseCopies is [fdpass.CloseCopies].
func CloseCopies(fds ...int) { fdpass.CloseCopies(fds...) }

// CloseInTime is [fdpass.CloseInTime].
func CloseInTime(f func() error) error { return fdpass.CloseInTime(f) }

// Guard is [fdpass.Guard].
func Guard(c net.Conn) net.Conn { return fdpass.Guard(c) }
