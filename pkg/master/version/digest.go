package version

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

const digestScheme = "sha256:"

const (
	chunk = 256 << 10 // bytes read, hashed and written at a time; fits a core's cache

	// A change within one tick of the clock that file times are taken from can
	// leave them as they were. Times this young prove nothing, so what was
	// hashed then is not remembered. Linux ticks every 10 ms at most.
	racyWindow = 50 * time.Millisecond
	// The same where times are whole seconds (old or foreign file systems).
	racyTime = 2 * time.Second
)

// openProgram opens a regular file to be read and says what it is. The flags
// are added (O_NOFOLLOW within the store).
func openProgram(path string, flags int) (*os.File, fs.FileInfo, error) {
	// O_NONBLOCK: a pipe at this path must not hang the master.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) && flags&syscall.O_NOFOLLOW != 0 {
			return nil, nil, fmt.Errorf("%s is a symbolic link, which is never followed in the store", path)
		}
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file but a %s", path, kindOf(info.Mode()))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	default:
		return fmt.Sprintf("special file (%v)", mode.Type())
	}
}

// hashAll reads r to its end.
func hashAll(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	return hashInto(ctx, r, nil)
}

// hashInto reads r to its end, and hands each piece to write (when there is
// one) before the next is read: the digest is that of the bytes written.
func hashInto(ctx context.Context, r io.Reader, write func([]byte) error) (digest string, size int64, err error) {
	sum := sha256.New()
	buf := make([]byte, chunk)
	for {
		if err := ctx.Err(); err != nil {
			return "", size, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			sum.Write(buf[:n])
			size += int64(n)
			if size > maxProgram {
				return "", size, fmt.Errorf("it is larger than %d bytes", int64(maxProgram))
			}
			if write != nil {
				if err := write(buf[:n]); err != nil {
					return "", size, err
				}
			}
		}
		if err == io.EOF {
			return format(sum), size, nil
		}
		if err != nil {
			return "", size, err
		}
	}
}

func format(sum hash.Hash) string {
	return digestScheme + hex.EncodeToString(sum.Sum(nil))
}

// validDigest tells whether s could have been made by Digest.
func validDigest(s string) bool {
	digits, ok := strings.CutPrefix(s, digestScheme)
	if !ok || len(digits) != 2*sha256.Size {
		return false
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}

// stamp is all that changes when somebody writes to a file. A file with the
// stamp it had when it was hashed has the same digest.
type stamp struct {
	dev, ino     uint64
	size         int64
	mtime, ctime int64 // nanoseconds since 1970
}

// stampOf is not ok where the file system tells no inode.
func stampOf(info fs.FileInfo) (s stamp, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}, false
	}
	return stamp{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size,
		mtime: info.ModTime().UnixNano(), ctime: changeTime(st),
	}, true
}

// settled tells whether any write after now must give the file another stamp.
func (s stamp) settled(now time.Time) bool {
	window := racyWindow
	if s.ctime%int64(time.Second) == 0 {
		window = racyTime
	}
	return now.UnixNano()-s.ctime > int64(window)
}
