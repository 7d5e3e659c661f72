// Package atomicfile replaces small files whole: a reader, and the next start
// after a power cut, sees the old content or the new one, never a mix.
package atomicfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

const (
	tempMark  = ".tmp-" // between a file's name and the random part of its temporary name
	tempBytes = 8       // random bytes in a temporary name
)

// Write replaces the file at path with data, or creates it. The mode is exact
// (the umask does not apply). When Write returns nil, the content and the name
// are on disk; when it returns an error, path has its old content, unless the
// error says that only the directory could not be synced.
//
// A symbolic link at path is replaced, never followed. The directory must
// exist. Concurrent writers of one path do not mix: the last rename wins.
func Write(path string, data []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	temp, err := create(path)
	if err != nil {
		return fmt.Errorf("write %s: create a temporary file in %s: %w", path, dir, cause(err))
	}
	if err := fill(temp, data, mode); err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write %s: %w (its old content is untouched)", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write %s: rename over it: %w", path, cause(err))
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("write %s: it was replaced, but may not survive a power cut: %w", path, err)
	}
	return nil
}

// create makes the temporary file beside path, so that the rename stays within
// one file system. O_EXCL and O_NOFOLLOW: nobody can have put a link there.
func create(path string) (*os.File, error) {
	dir, base := filepath.Split(path)
	var random [tempBytes]byte
	_, _ = rand.Read(random[:]) // never fails: crypto/rand
	name := filepath.Join(dir, "."+base+tempMark+hex.EncodeToString(random[:]))
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
}

// fill writes, sets the mode, syncs and closes.
func fill(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err != nil {
		err = fmt.Errorf("write %d bytes: %w", len(data), cause(err))
	}
	if err == nil {
		if err = f.Chmod(mode); err != nil {
			err = fmt.Errorf("set mode %v: %w", mode, cause(err))
		}
	}
	if err == nil {
		if err = f.Sync(); err != nil {
			err = fmt.Errorf("sync: %w", cause(err))
		}
	}
	if closing := f.Close(); err == nil && closing != nil {
		err = fmt.Errorf("close: %w", cause(closing))
	}
	return err
}

// SyncDir makes the names in dir durable. File systems that cannot sync a
// directory are taken to need none.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, cause(err))
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		return fmt.Errorf("sync directory %s: %w", dir, cause(err))
	}
	return nil
}

// Read returns the content of the regular file at path, of at most limit
// bytes; a larger file is an error. A symbolic link at path is refused, and so
// is anything that could block (a pipe). An absent file is fs.ErrNotExist.
func Read(path string, limit int64) ([]byte, error) {
	// O_NONBLOCK: opening a pipe must not wait for somebody to write.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("read %s: it is a symbolic link, which is never followed here", path)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	defer f.Close()
	return read(f, path, limit)
}

func read(f *os.File, path string, limit int64) ([]byte, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is not a regular file (%v)", path, info.Mode().Type())
	}
	// One byte more than allowed tells a file at the limit from a larger one,
	// also when it grows meanwhile.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, cause(err))
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: larger than the %d bytes it may have", path, limit)
	}
	return data, nil
}

// Sweep removes the temporary files that writers killed in the middle left in
// dir. Call it only while nobody else writes there: under the service's lock.
func Sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look for left-over temporary files in %s: %w", dir, cause(err))
	}
	ours := regexp.MustCompile(fmt.Sprintf(`^\..+%s[0-9a-f]{%d}$`, regexp.QuoteMeta(tempMark), 2*tempBytes))
	for _, entry := range entries {
		if !entry.Type().IsRegular() || !ours.MatchString(entry.Name()) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove left-over temporary file: %w", err)
		}
	}
	return nil
}

// cause strips the path that package os puts into its errors: ours is named
// already, and the temporary one would only puzzle.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}

// Replace is Write for a file that need not survive a power cut: a reader sees
// the old content or the new one, and nobody waits for the disk.
func Replace(path string, data []byte, mode fs.FileMode) error {
	temp, err := create(path)
	if err != nil {
		return fmt.Errorf("write %s: create a temporary file beside it: %w", path, cause(err))
	}
	_, err = temp.Write(data)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if closing := temp.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
		return fmt.Errorf("write %s: %w (its old content is untouched)", path, cause(err))
	}
	return nil
}
