package version

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
)

const (
	metaSchema  = 1
	metaName    = "meta.json"
	programName = "program"
)

// record is what meta.json holds: one version. Pinned is not in it, so that a
// store can be moved.
type record struct {
	Schema    int               `json:"schema"`
	ID        string            `json:"id"`
	Label     string            `json:"label"`
	Named     bool              `json:"named,omitempty"` // the label was given, not found
	Digest    string            `json:"digest"`
	Program   string            `json:"program"`
	Resolved  string            `json:"resolved"`
	Mode      string            `json:"mode"`
	Why       string            `json:"why"`
	Args      []string          `json:"args"`
	Env       map[string]string `json:"env,omitempty"`
	EnvFiles  []string          `json:"env_files,omitempty"`
	Dir       string            `json:"dir"`
	Listeners []string          `json:"listeners"`
	// Settings are how it is run, see Version; an earlier masterd knows nothing of them and runs
	// it with the service's. Proven: they are those that it has proved itself with.
	Settings json.RawMessage `json:"settings,omitempty"`
	Proven   bool            `json:"proven,omitempty"`
	Created  time.Time       `json:"created"`
	Last     time.Time       `json:"last"`
	Size     int64           `json:"size"`
	Held     bool            `json:"held,omitempty"`
	Build    string          `json:"build,omitempty"` // Go build information, for Diff
	// Guarded: where others could exchange the original, the copy is run. A version that an
	// earlier masterd has pinned runs as it did, with its files beside it, as it may be what
	// serves: until it is pinned anew.
	Guarded bool `json:"guarded,omitempty"`

	copy   string // the copy's name in the entry that is executed; empty: programName
	closed bool   // while it is pinned: not everybody may read the original
}

// version is the public view of a record, sharing nothing with it.
func (r record) version(store string) Version {
	v := Version{
		ID: r.ID, Label: r.Label, Digest: r.Digest, Program: r.Program, Resolved: r.Resolved,
		Mode: r.Mode, Why: r.Why, Args: r.Args, Env: r.Env, EnvFiles: r.EnvFiles, Dir: r.Dir, Listeners: r.Listeners,
		Settings: r.Settings, Created: r.Created, Last: r.Last, Size: r.Size, Held: r.Held,
	}.clone()
	if r.Mode == ModeCopy {
		v.Pinned = r.pinned(store)
	}
	return v
}

// pinned is the copy in a store.
func (r record) pinned(store string) string {
	return filepath.Join(store, r.ID, cmp.Or(r.copy, programName))
}

// nameCopy gives the copy in an entry the program's own name beside the one that all
// have: the name of what was executed is what ps and pgrep show.
func (r *record) nameCopy(entry string) {
	name := filepath.Base(r.Resolved)
	if r.Mode != ModeCopy || name == metaName || strings.HasPrefix(name, ".") {
		return
	}
	program, named := filepath.Join(entry, programName), filepath.Join(entry, name)
	err := os.Link(program, named)
	if errors.Is(err, fs.ErrExist) && sameFile(program, named) {
		err = nil
	}
	if err == nil {
		r.copy = name
	}
}

func sameFile(a, b string) bool {
	x, errX := os.Lstat(a)
	y, errY := os.Lstat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// identity is the short hash over all that makes a version what it is. A label
// that was given is part of it: the worker is told it, and a rollback to v1 must
// not find v1 renamed because v2 happened to be the same program. Where a
// copied program came from is not part of it; where a watched one lies is.
func (r record) identity() string {
	what := struct {
		Digest, Mode, Path, Dir string
		Args                    []string
		Env                     map[string]string // encoded in the order of its keys
		EnvFiles                []string
		Label                   string `json:",omitempty"`
	}{Digest: r.Digest, Mode: r.Mode, Dir: r.Dir, Args: r.Args}
	if r.Mode == ModePath {
		what.Path = r.Resolved
	}
	if r.Named {
		what.Label = r.Label
	}
	if len(r.Env) > 0 { // none and an empty one are the same
		what.Env = r.Env
	}
	if len(r.EnvFiles) > 0 {
		what.EnvFiles = r.EnvFiles
	}
	text, err := json.Marshal(what)
	if err != nil {
		panic("version: strings that cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:idDigits]
}

// encode checks the size, so that what is written can be read again.
func (r record) encode() ([]byte, error) {
	r.Schema = metaSchema
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, err
	}
	if len(text) > maxMeta {
		return nil, fmt.Errorf("arguments and environment take %d bytes, at most %d are allowed", len(text), maxMeta)
	}
	return append(text, '\n'), nil
}

// readRecord reads the entry id of a store and believes nothing in it that can
// be checked.
func readRecord(store, id string) (record, error) {
	entry := filepath.Join(store, id)
	info, err := os.Lstat(entry)
	if err != nil {
		return record{}, err
	}
	if !info.IsDir() {
		return record{}, fmt.Errorf("%s is not a directory but a %s", entry, describe(info.Mode()))
	}
	text, err := atomicfile.Read(filepath.Join(entry, metaName), maxMeta)
	if err != nil {
		return record{}, err
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return record{}, fmt.Errorf("%s is damaged: %w", filepath.Join(entry, metaName), err)
	}
	switch {
	case r.Schema > metaSchema:
		err = fmt.Errorf("written by a newer masterd (schema %d, this one knows %d)", r.Schema, metaSchema)
	case r.ID != id || r.identity() != id:
		err = errors.New("its content does not belong to its name")
	case !validDigest(r.Digest):
		err = fmt.Errorf("the digest %q is none", r.Digest)
	case r.Mode != ModeCopy && r.Mode != ModePath:
		err = fmt.Errorf("the mode %q is none", r.Mode)
	case len(r.Args) == 0:
		err = errors.New("it has no arguments")
	case r.Mode == ModeCopy:
		err = checkStored(filepath.Join(entry, programName), r.Size)
	}
	if err != nil {
		return record{}, fmt.Errorf("%s: %w", entry, err)
	}
	r.Settings = compact(r.Settings)
	return r, nil
}

// compact is a text of JSON as it was before it was written among others; nothing for null.
func compact(text json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if json.Compact(&out, text) != nil || out.String() == "null" {
		return nil
	}
	return out.Bytes()
}

// checkStored is the cheap look at a stored program; Executable reads it.
func checkStored(path string, size int64) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file but a %s", path, describe(info.Mode()))
	}
	if info.Size() != size {
		return fmt.Errorf("%s has %d bytes, pinned were %d", path, info.Size(), size)
	}
	return ownedSafely(path, info)
}

// ownedSafely refuses what others than root and the master's user could change.
func ownedSafely(path string, info fs.FileInfo) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, neither to root nor to the master's user (uid %d)", path, st.Uid, os.Geteuid())
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s can be written by others (mode %v)", path, info.Mode().Perm())
	}
	return nil
}

func describe(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode.IsRegular():
		return "file"
	}
	return kindOf(mode)
}
