package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// spareMark ends the name of the file that a replacement is written into.
const spareMark = ".spare"

// Reserved is a file that is replaced again and again, as by [Replace], and can also be
// replaced when its file system is full: what is written next has its space already. That
// is a second file beside it, which takes its place and gets back the one before, with
// all pages of both. Nothing else may read or write them; its methods are called by one
// goroutine, and one process, at a time.
type Reserved struct {
	Spare string // the path of the second file, without the suffix that it gets
	Size  int64  // bytes that are reserved in any case; twice the content's, if that is more
	// Pad is what the content is made longer with: to cut a file would give its pages
	// to whoever waits for some. Zero: it is cut all the same.
	Pad byte
}

// Replace replaces the file at path. It need not be there, and need not always be the
// same: where there is none that could be exchanged, the space for the next one is
// reserved anew, if there is any.
func (r Reserved) Replace(path string, data []byte, mode fs.FileMode) error {
	f, err := r.open()
	if errors.Is(err, errRead) {
		return Replace(path, data, mode)
	}
	if err != nil {
		return fmt.Errorf("write %s: open what it is written into: %w", path, cause(err))
	}
	err = r.fill(f, data, mode)
	if closing := unlock(f); err == nil {
		err = closing
	}
	if err != nil {
		return fmt.Errorf("write %s: %w (its old content is untouched)", path, cause(err))
	}
	if exchange(r.spare(), path) == nil {
		return nil
	}
	if err := os.Rename(r.spare(), path); err != nil {
		return fmt.Errorf("write %s: rename over it: %w", path, cause(err))
	}
	if f, err := r.open(); err == nil {
		reserve(f, r.size(len(data)))
		_ = unlock(f)
	}
	return nil
}

func (r Reserved) spare() string { return r.Spare + spareMark }

func (r Reserved) size(content int) int64 { return max(r.Size, 2*int64(content)) }

// errRead: somebody reads the spare file, which was in place a moment ago.
var errRead = errors.New("it is being read")

// open opens the spare file for this process alone. What lies there in its place is
// removed: nobody else has anything there.
func (r Reserved) open() (*os.File, error) {
	const flags = os.O_RDWR | os.O_CREATE | syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	f, err := os.OpenFile(r.spare(), flags, 0o600)
	if info, stat := os.Lstat(r.spare()); stat == nil && !info.Mode().IsRegular() {
		_ = f.Close() // of nil, perhaps
		_ = os.Remove(r.spare())
		f, err = os.OpenFile(r.spare(), flags|os.O_EXCL, 0o600)
	}
	if err != nil {
		return nil, err
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = f.Close()
		return nil, errRead
	}
	return f, nil
}

func lockShared(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_SH) }

// unlock lets readers in, also where a process that was just forked has the file open.
func unlock(f *os.File) error {
	_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
	return f.Close()
}

// fill writes, without giving any page away.
func (r Reserved) fill(f *os.File, data []byte, mode fs.FileMode) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	short := info.Size() - int64(len(data))
	if short > 0 && r.Pad == 0 {
		if err := f.Truncate(0); err != nil {
			return err
		}
	} else if short > 0 {
		data = append(bytes.Clone(data), bytes.Repeat([]byte{r.Pad}, int(short))...)
	}
	if _, err := f.WriteAt(data, 0); err != nil {
		return fmt.Errorf("write %d bytes: %w", len(data), err)
	}
	reserve(f, r.size(len(data)))
	return f.Chmod(mode)
}

// ReadReserved is [Read] of a file that [Reserved.Replace] writes: what is read is not
// written again meanwhile.
func ReadReserved(path string, limit int64) ([]byte, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if err != nil {
			return Read(path, limit) // it says why
		}
		_ = lockShared(f) // waits for the time of one write, at most
		mine, err := f.Stat()
		now, gone := os.Lstat(path)
		if err == nil && gone == nil && !os.SameFile(mine, now) {
			_ = f.Close()
			continue // it was replaced before it was locked
		}
		data, err := read(f, path, limit)
		_ = unlock(f)
		return data, err
	}
}

// Drop removes what was reserved.
func (r Reserved) Drop() error {
	if err := os.Remove(r.spare()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was reserved in %s: %w", filepath.Dir(r.Spare), err)
	}
	return nil
}
