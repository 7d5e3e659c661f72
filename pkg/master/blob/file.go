package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/atomicfile"
)

const (
	// suffix ends the name of a blob's file: no name of a blob can be one that
	// means something to a directory ("..").
	suffix = ".blob"
	// maxHeader bounds a file's first line, in bytes.
	maxHeader = 1 << 10
	// fileMode and dirMode: what a service keeps is nobody else's to read.
	fileMode = 0o600
	dirMode  = 0o700
)

// header is the first line of a file; the content follows.
type header struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size"`
	SHA256     string    `json:"sha256"`
	Generation uint64    `json:"generation"`
	Since      time.Time `json:"since"`
}

// Store writes the blobs that are to outlive a stop, one file each, and removes
// the files of others. One that cannot be written keeps the file that it had,
// and does not keep the rest from being written; the error names each. No
// content is ever part of an error.
func Store(dir string, all []Blob) error {
	wanted := map[string]bool{}
	var failed []error
	for _, b := range all {
		if !b.Persist {
			continue
		}
		wanted[b.Name+suffix] = true
		if err := os.Mkdir(dir, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("keeping blobs across the stop: %w", err)
		}
		if err := write(dir, b); err != nil {
			failed = append(failed, fmt.Errorf("keeping blob %s across the stop: %w", b.Name, err))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && !wanted[e.Name()] {
			failed = append(failed, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(failed...)
}

// write makes one file. It needs the content in memory once more, one blob at a
// time: the file must be replaced whole.
func write(dir string, b Blob) error {
	h := header{Name: b.Name, Size: b.Size, Generation: b.Generation, Since: b.Since}
	data := make([]byte, maxHeader+b.Size)
	content := data[maxHeader:]
	if err := read(b.FD, content); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	h.SHA256 = hex.EncodeToString(sum[:])
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if len(line) > maxHeader {
		return fmt.Errorf("its header has %d bytes, at most %d fit", len(line), maxHeader)
	}
	at := maxHeader - len(line)
	copy(data[at:], line)
	return atomicfile.Write(filepath.Join(dir, b.Name+suffix), data[at:], fileMode)
}

// Load reads back what Store wrote, as far as the limits allow. A file that is
// damaged, or does not fit, is left where it is and named in the error; the
// others are returned just the same. Their descriptors are the caller's.
func Load(dir string, l Limits) ([]Blob, error) {
	names, err := stored(dir)
	if names == nil {
		return nil, err
	}
	failed := []error{atomicfile.Sweep(dir)}
	var all []Blob
	for _, name := range names {
		b, err := load(filepath.Join(dir, name+suffix), name, l)
		if err != nil {
			failed = append(failed, fmt.Errorf("kept blob %s is not taken over: %w", name, err))
			continue
		}
		all = append(all, b)
	}
	return all, errors.Join(failed...)
}

// stored are the names of the blobs that have a file.
func stored(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading kept blobs: %w", err)
	}
	names = []string{}
	for _, e := range entries {
		if name, ours := strings.CutSuffix(e.Name(), suffix); ours && ipc.CheckBlobName(name) == nil {
			names = append(names, name)
		}
	}
	return names, nil
}

func load(path, name string, l Limits) (Blob, error) {
	data, err := atomicfile.Read(path, int64(min(l.Blob, 1<<62))+maxHeader)
	if err != nil {
		return Blob{}, err
	}
	line, content, found := bytes.Cut(data, []byte("\n"))
	var h header
	if !found || len(line) >= maxHeader || json.Unmarshal(line, &h) != nil {
		return Blob{}, fmt.Errorf("%s is damaged: it does not begin as such a file does", path)
	}
	sum := sha256.Sum256(content)
	if h.Name != name || h.Size != int64(len(content)) || h.SHA256 != hex.EncodeToString(sum[:]) {
		return Blob{}, fmt.Errorf("%s is damaged: its content is not what its first line says", path)
	}
	fd, err := memory(name, content)
	if err != nil {
		return Blob{}, err
	}
	return Blob{Name: name, Size: h.Size, FD: fd, Persist: true, Filed: true, Generation: h.Generation,
		Since: h.Since}, nil
}

// memory makes sealed memory with this content.
func memory(name string, content []byte) (int, error) {
	f, err := ipc.NewMemory(name)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return -1, fmt.Errorf("filling memory with %d bytes: %w", len(content), err)
	}
	if err := ipc.Seal(f); err != nil {
		return -1, err
	}
	fd, err := fdpass.DuplicateOf(f)
	return fd, os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err)
}

// Drop removes a blob's file, if there is one.
func Drop(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name+suffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting blob %s: %w", name, err)
	}
	return nil
}

// Prune removes the files of all blobs but those to be kept.
func Prune(dir string, keep func(name string) bool) error {
	names, err := stored(dir)
	for _, name := range names {
		if !keep(name) {
			err = errors.Join(err, Drop(dir, name))
		}
	}
	return err
}
