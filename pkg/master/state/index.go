package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/trust"
)

const (
	indexDir   = ".services" // no service can have this name
	indexMode  = 0o755
	entryMode  = 0o644
	maxEntry   = 16 << 10 // bytes
	maxEntries = 1024     // of an index that are looked at
)

// Entry says where a service runs whose runtime directory is not where those of
// its user are. With it a master is found without its configuration, which may
// be broken, or gone.
type Entry struct {
	Service    string `json:"service"`
	Config     string `json:"config"` // the file, absolute
	RuntimeDir string `json:"runtime_dir"`
}

// path is where an entry lies: a runtime directory has one.
func (e Entry) path(base string) string {
	sum := sha256.Sum256([]byte(e.RuntimeDir))
	return filepath.Join(base, indexDir, hex.EncodeToString(sum[:8])+".json")
}

// Enter writes a service into the index in base, the directory of its user's
// runtime directories, unless it is there.
func Enter(base string, e Entry) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if was, err := atomicfile.Read(e.path(base), maxEntry); err == nil && string(was) == string(text) {
		return nil
	}
	dir := filepath.Join(base, indexDir)
	if err := Dirs(dir); err != nil {
		return err
	}
	if err := os.Chmod(dir, indexMode); err != nil {
		return err
	}
	if err := atomicfile.Replace(e.path(base), text, entryMode); err != nil {
		return err
	}
	prune(dir)
	return nil
}

// Leave takes a service out of the index, and the directories that are empty then.
func (e Entry) Leave(base string) error {
	if err := os.Remove(e.path(base)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Remove(filepath.Join(base, indexDir)) == nil { // or it is not empty
		_ = os.Remove(base)
	}
	return nil
}

// prune removes what was left by masters that were killed, with their directories
// gone since.
func prune(dir string) {
	for _, path := range entries(dir) {
		e, err := readEntry(path)
		if err != nil {
			continue
		}
		if _, err := os.Lstat(e.RuntimeDir); errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(path)
		}
	}
}

// Index reads the index in base, as far as only root and the owners can have
// written it.
func Index(base string, by trust.Owners) (list []Entry) {
	dir := filepath.Join(base, indexDir)
	info, err := by.Check(dir)
	if err != nil || !by.Has(trust.Owner(info)) || info.Mode().Perm()&0o022 != 0 {
		return nil
	}
	for _, path := range entries(dir) {
		if e, err := readEntry(path); err == nil {
			list = append(list, e)
		}
	}
	return list
}

// entries are the files of an index, as many as are looked at.
func entries(dir string) (paths []string) {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	names, _ := f.Readdirnames(maxEntries) // the error is the end
	for _, name := range names {
		if filepath.Ext(name) == ".json" && name[0] != '.' {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths
}

func readEntry(path string) (e Entry, err error) {
	text, err := atomicfile.Read(path, maxEntry)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, err
	}
	if !filepath.IsAbs(e.RuntimeDir) {
		return e, fmt.Errorf("%q is not absolute", e.RuntimeDir)
	}
	return e, nil
}
