//go:build !linux

package master

import (
	"errors"
	"net"
	"syscall"

	"github.com/masterd/masterd/pkg/master/listen"
)

// The daemon needs Linux: New fails when it opens its listeners. What is here
// lets the rest build, so that the verbs which talk to a master do, too.

func monotonic() int64 { return 0 }

func pair() (net.Conn, int, error) { return nil, -1, errors.ErrUnsupported }

func closeFiles([]listen.File) {}

func closeFD(int) {}

func descriptor(net.Conn) (int, error) { return -1, errors.ErrUnsupported }

func (m *Master) answerFD(orphan) {}

var signals = map[string]syscall.Signal{"TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
