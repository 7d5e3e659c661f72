//go:build !linux

package ipc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
)

var started = time.Now()

// The protocol needs SOCK_SEQPACKET, descriptors on messages and SO_PEERCRED
// together, which only Linux has. Everything fails at Listen and Dial already.

func supported() error {
	return fmt.Errorf("the control protocol needs Linux, not %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func limitMode(syscall.RawConn, os.FileMode) error { return supported() }
func pair() (int, int, error)                      { return -1, -1, supported() }
func peerCred(int) (Cred, error)                   { return Cred{}, supported() }
func peerGone(int, Cred) bool                      { return true }
func unread(syscall.Conn) bool                     { return false }
func monotonic() time.Duration                     { return time.Since(started) }
