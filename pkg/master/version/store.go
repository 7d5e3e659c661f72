package version

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
)

// Options of a store. The zero value is fine.
type Options struct {
	Now func() time.Time // nil: time.Now
}

// Store is a directory of pinned versions. It belongs to one process (whoever
// holds the service's lock) and may be used by several goroutines.
type Store struct {
	dir string
	now func() time.Time

	// pinning is held, by a token in it, while an entry is made or removed;
	// a channel, so that waiting for it ends with the context.
	pinning chan struct{}

	mu       sync.Mutex
	records  map[string]record
	damaged  map[string]string // entry → what is wrong with it
	hashed   map[string]known  // path → what was read there last
	reflink  func(dst, src *os.File) error
	pinRetry time.Duration
}

// known is a digest, and the stamp of the file when it was computed.
type known struct {
	stamp  stamp
	digest string
}

const tempPrefix = ".tmp-" // of directories that are being made or removed

// Open opens the store in dir, and makes it (mode 0711: workers must reach
// what they run, nobody needs a list). What a master that was killed left half
// made is removed; entries that cannot be used are set aside, see Problems.
func Open(dir string, opt Options) (*Store, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("open version store %q: the path is not absolute", dir)
	}
	if err := prepare(dir); err != nil {
		return nil, fmt.Errorf("open version store %s: %w", dir, err)
	}
	s := &Store{
		dir: filepath.Clean(dir), now: opt.Now,
		pinning: make(chan struct{}, 1),
		records: map[string]record{}, damaged: map[string]string{}, hashed: map[string]known{},
		reflink: reflink, pinRetry: pinRetry,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("open version store %s: %w", dir, err)
	}
	return s, nil
}

// prepare makes the directory, or checks the one that is there.
func prepare(dir string) error {
	err := os.Mkdir(dir, 0o711)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the state directory %s does not exist", filepath.Dir(dir))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("it is not a directory but a %s", describe(info.Mode()))
	}
	if err := ownedSafely(dir, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o711 != 0o711 { // the umask, or somebody's tidiness
		return os.Chmod(dir, 0o711)
	}
	return nil
}

func (s *Store) load() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	id := regexp.MustCompile(fmt.Sprintf(`^[0-9a-f]{%d}$`, idDigits))
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case strings.HasPrefix(name, tempPrefix):
			if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil { // never follows links
				return fmt.Errorf("remove what a killed master left half made: %w", err)
			}
		case !id.MatchString(name):
			s.damaged[name] = fmt.Sprintf("%s is not masterd's: it is left alone", filepath.Join(s.dir, name))
		case len(s.records) >= maxVersions:
			s.damaged[name] = fmt.Sprintf("%s: there are more than %d versions", filepath.Join(s.dir, name), maxVersions)
		default:
			r, err := readRecord(s.dir, name)
			if err != nil {
				s.damaged[name] = err.Error()
				continue
			}
			r.nameCopy(filepath.Join(s.dir, name)) // an older masterd did not
			s.records[name] = r
			// A write of its meta.json may have been cut short.
			_ = atomicfile.Sweep(filepath.Join(s.dir, name))
		}
	}
	return nil
}

// Problems says, one sentence each, which entries of the store cannot be used
// and why. They are kept on disk for whoever wants to look; pinning the same
// version again replaces its entry.
func (s *Store) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, why := range s.damaged {
		all = append(all, why)
	}
	slices.Sort(all)
	return all
}

// Get returns the version with this ID.
func (s *Store) Get(id string) (Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[id]
	if !ok {
		return Version{}, false
	}
	return r.version(s.dir), true
}

// List returns all versions, newest first.
func (s *Store) List() []Version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

func (s *Store) list() []Version {
	all := make([]Version, 0, len(s.records))
	for _, r := range s.records {
		all = append(all, r.version(s.dir))
	}
	slices.SortFunc(all, func(a, b Version) int {
		if c := b.Last.Compare(a.Last); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// Resolve finds the version that ref names: an ID, a label (the newest version
// that has it), or the beginning of an ID or of a digest, of at least four
// characters. When several begin so, the error lists them.
func (s *Store) Resolve(ref string) (Version, error) {
	if ref == "" {
		return Version{}, errors.New("no version was named")
	}
	all := s.List()
	for _, v := range all {
		if v.ID == ref {
			return v, nil
		}
	}
	for _, v := range all { // newest first
		if v.Label == ref {
			return v, nil
		}
	}
	prefix := strings.ToLower(strings.TrimPrefix(ref, digestScheme))
	var found []Version
	for _, v := range all {
		if len(prefix) >= minPrefix && (strings.HasPrefix(v.ID, prefix) || strings.HasPrefix(v.Digest, digestScheme+prefix)) {
			found = append(found, v)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Version{}, fmt.Errorf("no kept version has the ID, label or digest %q%s", ref, listed("; kept are ", all))
	}
	return Version{}, fmt.Errorf("%q is ambiguous: it could be %s; name one by its ID", ref, listed("", found))
}

const maxListed = 10 // versions named in one error

func listed(before string, all []Version) string {
	if len(all) == 0 {
		return ""
	}
	var names []string
	for _, v := range all[:min(len(all), maxListed)] {
		names = append(names, v.String())
	}
	if more := len(all) - maxListed; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return before + strings.Join(names, ", ")
}

// Hold keeps a version from being pruned, or lets it go again.
func (s *Store) Hold(id string, on bool) error {
	if err := s.change(id, func(r *record) { r.Held = on }); err != nil {
		return fmt.Errorf("hold version %s: %w", id, err)
	}
	return nil
}

// Prove notes that a version has proved itself with these settings.
func (s *Store) Prove(id string, settings json.RawMessage) error {
	if err := s.change(id, func(r *record) { r.Settings, r.Proven = settings, true }); err != nil {
		return fmt.Errorf("keep the settings of version %s: %w", id, err)
	}
	return nil
}

// change replaces the metadata of an entry that do not make it what it is, where they change.
func (s *Store) change(id string, as func(*record)) error {
	s.pinning <- struct{}{}
	defer func() { <-s.pinning }()
	s.mu.Lock()
	r, ok := s.records[id]
	s.mu.Unlock()
	if !ok {
		return errors.New("it is not in the store")
	}
	was := r
	as(&r)
	if r.Held == was.Held && r.Proven == was.Proven && bytes.Equal(r.Settings, was.Settings) {
		return nil
	}
	return s.rewrite(r)
}

// rewrite replaces the metadata of an entry, on disk first.
func (s *Store) rewrite(r record) error {
	text, err := r.encode()
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(s.dir, r.ID, metaName), text, 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	s.records[r.ID] = r
	s.mu.Unlock()
	return nil
}

// Prune removes versions so that the newest keep stay, and beside them every
// one that is held or in inUse (by ID). It goes on after an error and returns
// what was removed together with what went wrong.
func (s *Store) Prune(keep int, inUse map[string]bool) (removed []string, err error) {
	s.pinning <- struct{}{}
	defer func() { <-s.pinning }()
	var errs []error
	for i, v := range s.List() {
		if i < keep || v.Held || inUse[v.ID] {
			continue
		}
		if err := s.remove(v.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove version %s: %w", v, err))
			continue
		}
		removed = append(removed, v.ID)
	}
	return removed, errors.Join(errs...)
}

// remove takes an entry out by renaming it first: killed in between, it is
// gone or whole. The caller holds pinning.
func (s *Store) remove(id string) error {
	entry, gone := filepath.Join(s.dir, id), filepath.Join(s.dir, tempPrefix+"gone-"+id)
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	if err := os.Rename(entry, gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.mu.Lock()
	if r, ok := s.records[id]; ok {
		delete(s.hashed, r.pinned(s.dir))
		delete(s.hashed, r.Resolved)
	}
	delete(s.records, id)
	delete(s.damaged, id)
	s.mu.Unlock()
	return os.RemoveAll(gone)
}

// Check says why programs could not be run from a store in dir, which need not
// exist yet; nil: nothing speaks against it.
func Check(dir string) error {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); err != nil && at != filepath.Dir(at) {
			continue
		}
		if noExec(at) {
			return fmt.Errorf("%s is on a file system that is mounted noexec, so pinned programs could not be run from it; put state_dir elsewhere, or set worker.pin to path", dir)
		}
		return nil
	}
}
