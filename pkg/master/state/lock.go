package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/process"
)

const (
	lockName   = "lock"
	maxLock    = 4 << 10 // bytes read of a lock file
	maxCommand = 200     // bytes of a command line shown

	// forkWait is how long a lock may be held by nobody who can be seen: a child
	// of a master that was killed has it until it executes its program.
	forkWait  = time.Second
	forkPause = 5 * time.Millisecond
)

// Lock is the right to be the one master of a service. The kernel takes it back
// when the process dies, however it dies; the file stays for ever, because
// removing it would let two masters hold locks on two files of one name.
type Lock struct {
	dir, service string

	mu     sync.Mutex
	file   *os.File
	closed bool
}

// HeldError says that another process is the service's master.
type HeldError struct {
	Service string
	File    string
	PID     int    // zero: not known
	Command string // its command line; empty: not known
}

func (e *HeldError) Error() string {
	who := "a process that cannot be seen from here (another container, perhaps)"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	if e.Command != "" {
		who += " (" + e.Command + ")"
	}
	return fmt.Sprintf("service %q has a master already: %s holds %s; to load a new version use \"masterd reload\", to end it \"masterd stop\"", e.Service, who, e.File)
}

// Acquire takes the lock of a service in its runtime directory. It does not wait
// for a master to end. When another process has it, the error is a *HeldError.
func Acquire(dir, service string) (*Lock, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("lock service %q: %s is a symbolic link, which is never followed here", service, path)
	}
	if err != nil {
		return nil, fmt.Errorf("lock service %q: %w", service, err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("lock service %q: %s is not a regular file", service, path)
	}
	for end := time.Now().Add(forkWait); ; time.Sleep(forkPause) {
		if err = flock(f); !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
		held := &HeldError{Service: service, File: path}
		if held.PID, held.Command = holder(f); held.PID != 0 || time.Now().After(end) {
			f.Close()
			return nil, held
		}
	}
	if err == nil {
		err = sign(f, service)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock service %q with %s: %w", service, path, err)
	}
	return &Lock{dir: dir, service: service, file: f}, nil
}

// Mend takes the lock again if the file's name is gone: a second master would
// make another one. That is a *HeldError if one has come meanwhile.
func (l *Lock) Mend() (mended bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, nil
	}
	mine, err := l.file.Stat()
	if err != nil {
		return false, fmt.Errorf("look at the lock of service %q: %w", l.service, err)
	}
	if now, err := os.Lstat(filepath.Join(l.dir, lockName)); err == nil && os.SameFile(mine, now) {
		return false, nil
	}
	again, err := Acquire(l.dir, l.service)
	if err != nil {
		return false, err
	}
	before := l.file
	l.file = again.file
	return true, before.Close()
}

// Close gives the lock back. Only the first one does.
func (l *Lock) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.file.Close()
}

// flock is on the open file, not on the process: a second master within this
// process is refused as well, and close-on-exec keeps workers out of it.
func flock(f *os.File) error {
	return fdpass.Control(f, func(fd int) error {
		for {
			if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EINTR {
				return err
			}
		}
	})
}

// sign writes who holds the lock, over what was there, then cuts the rest: a
// reader in between finds a pid that is not alive, never an empty file. A full
// disk is no reason to have no master.
func sign(f *os.File, service string) error {
	pid := os.Getpid()
	begun, err := process.Begun(pid)
	if err != nil {
		begun = "-"
	}
	text := fmt.Sprintf("%d %s %s\n", pid, begun, service)
	if _, err := f.WriteAt([]byte(text), 0); err != nil {
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return nil
		}
		return err
	}
	return f.Truncate(int64(len(text)))
}

// holder reads what sign wrote, and believes it only if that process is still
// the same one: a pid is reused.
func holder(f *os.File) (pid int, command string) {
	buf := make([]byte, maxLock)
	n, _ := f.ReadAt(buf, 0)
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return 0, ""
	}
	pid, err := strconv.Atoi(fields[0])
	if err != nil || pid <= 0 {
		return 0, ""
	}
	begun, err := process.Begun(pid)
	if err != nil || begun != fields[1] {
		return 0, ""
	}
	return pid, commandOf(pid)
}
