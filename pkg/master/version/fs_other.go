//go:build !linux

package version

import (
	"errors"
	"os"
	"syscall"
)

// Where masterd is only developed on, versions are copied byte by byte and the
// refinements of Linux are absent.

const writebackStep = 4 << 20

func changeTime(st *syscall.Stat_t) int64 { return st.Ctimespec.Nano() }

func reflink(dst, src *os.File) error { return errors.ErrUnsupported }

func startWriteback(f *os.File, offset, n int64) {}

func hasWriter(f *os.File) bool { return false }

func hasCapabilities(f *os.File) bool { return false }

func noExec(dir string) bool { return false }
