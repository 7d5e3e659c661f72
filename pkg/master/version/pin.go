package version

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
)

const (
	pinAttempts = 25                     // reads of a program that somebody is still writing
	pinRetry    = 200 * time.Millisecond // between two of them: 5 s in all
)

// errUnsettled: the program changed while it was read. Its text says how.
type errUnsettled struct{ how string }

func (e errUnsettled) Error() string { return e.how }

// Pin makes a version of src, durably. The same content, arguments, environment
// and directory under the same given label are the same version: nothing is
// written then.
// The digest is that of the bytes that were stored. A program that is being
// written meanwhile is read again for up to five seconds. An error leaves the
// store as it was.
func (s *Store) Pin(ctx context.Context, src Source) (Version, error) {
	select {
	case s.pinning <- struct{}{}:
		defer func() { <-s.pinning }()
	case <-ctx.Done():
		return Version{}, fmt.Errorf("pin %s: waiting for another pin: %w", src.Program, ctx.Err())
	}
	r, err := s.pinSettled(ctx, src)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		err = fmt.Errorf("%w; make room in %s or lower rollout.keep_versions", err, s.dir)
	}
	if err != nil {
		return Version{}, fmt.Errorf("pin %s: %w", src.Program, err)
	}
	return r.version(s.dir), nil
}

// pinSettled tries until the program holds still.
func (s *Store) pinSettled(ctx context.Context, src Source) (record, error) {
	for attempt := 1; ; attempt++ {
		r, err := s.pinOnce(ctx, src)
		var unsettled errUnsettled
		if err == nil || !errors.As(err, &unsettled) {
			return r, err
		}
		if attempt == pinAttempts {
			return record{}, fmt.Errorf("somebody is still writing it after %d attempts: %w; copy it to a name beside and rename that over it, then try again", attempt, err)
		}
		timer := time.NewTimer(s.pinRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return record{}, fmt.Errorf("somebody is still writing it: %w (%w)", err, ctx.Err())
		}
	}
}

// pinOnce makes one attempt.
func (s *Store) pinOnce(ctx context.Context, src Source) (record, error) {
	f, info, choice, err := open(src)
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	if err := choice.decide(src, f, info); err != nil {
		return record{}, err
	}
	if why := truncated(f, info.Size()); why != "" {
		return record{}, errUnsettled{"it is not whole: " + why}
	}
	if hasWriter(f) {
		return record{}, errUnsettled{"another process has it open for writing"}
	}
	now := s.now().UTC().Round(0)
	r := record{
		Program: src.Program, Resolved: choice.Resolved, Mode: choice.Mode, Why: choice.Why,
		Args: src.Args, Env: src.Env, EnvFiles: src.EnvFiles, Dir: choice.Dir, Listeners: src.Listeners, Settings: src.Settings,
		Created: now, Last: now, Size: info.Size(),
		Label: src.Label, Named: src.Label != "", closed: !forAll(choice.Resolved, info), Guarded: choice.Mode == ModeCopy,
	}
	// still tells whether what was read is what is there.
	still := func() error { return unchanged(f, choice.Resolved, info) }

	if r.Mode == ModeCopy && !s.mayKnow(choice.Resolved, info) {
		return s.copyNew(ctx, r, f, still)
	}
	// Read before anything is written: likely it is here already.
	if r.Digest, err = s.digestAt(ctx, choice.Resolved, f, info); err != nil {
		return record{}, err
	}
	if err := still(); err != nil {
		return record{}, err
	}
	r.ID = r.identity()
	if old, ok := s.stored(ctx, r.ID); ok {
		return s.again(old, r)
	}
	r.describe(f)
	if r.Mode == ModeCopy {
		return s.copyNew(ctx, r, f, still)
	}
	return s.watch(r)
}

// unchanged compares the open file, and the path it was opened by, with what
// it was at first.
func unchanged(f *os.File, path string, before os.FileInfo) error {
	for _, look := range []func() (os.FileInfo, error){f.Stat, func() (os.FileInfo, error) { return os.Stat(path) }} {
		after, err := look()
		if err != nil {
			return errUnsettled{fmt.Sprintf("it went away while it was read (%v)", err)}
		}
		if after.Size() != before.Size() {
			return errUnsettled{fmt.Sprintf("its size went from %d to %d bytes while it was read", before.Size(), after.Size())}
		}
		was, _ := stampOf(before)
		if is, _ := stampOf(after); is != was {
			return errUnsettled{"it was changed while it was read"}
		}
	}
	return nil
}

// mayKnow tells whether reading before copying is likely to save the copy.
func (s *Store) mayKnow(path string, info os.FileInfo) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.Mode == ModeCopy && r.Size == info.Size() {
			return true
		}
	}
	return false
}

// stored returns the entry id if what it needs to be run is there unharmed.
func (s *Store) stored(ctx context.Context, id string) (record, bool) {
	s.mu.Lock()
	r, ok := s.records[id]
	s.mu.Unlock()
	if !ok {
		return record{}, false
	}
	if r.Mode == ModeCopy && s.checkPinned(ctx, r) != nil {
		return record{}, false
	}
	return r, true
}

// again notes that a version was pinned once more. The disk is only written to
// when there is something to tell.
func (s *Store) again(old, r record) (record, error) {
	next := old
	if r.closed && !s.isClosed(old) {
		if err := s.admit(old, nil); err != nil {
			return record{}, err
		}
	}
	next.Program, next.Resolved, next.Why, next.Last, next.Listeners = r.Program, r.Resolved, r.Why, r.Last, r.Listeners
	next.Guarded = r.Guarded
	if !old.Proven {
		next.Settings = r.Settings
	}
	if !bytes.Equal(next.Settings, old.Settings) || next.Guarded != old.Guarded || next.Resolved != old.Resolved || next.Program != old.Program || !slices.Equal(next.Listeners, old.Listeners) {
		next.nameCopy(filepath.Join(s.dir, next.ID))
		return next, s.rewrite(next)
	}
	s.mu.Lock()
	s.records[next.ID] = next
	s.mu.Unlock()
	return next, nil
}

// describe fills in what the program says of itself.
func (r *record) describe(f io.ReaderAt) {
	build := readBuild(f)
	if build != nil {
		if text := build.String(); len(text) <= maxBuild {
			r.Build = text
		}
	}
	if !r.Named {
		r.Label = labelOf(build, r.Digest)
	}
}

// copyNew stores the program and hashes what it stores, then makes the version
// of it, unless it turns out to be one that is here.
func (s *Store) copyNew(ctx context.Context, r record, f *os.File, still func() error) (record, error) {
	if err := Check(s.dir); err != nil {
		return record{}, err
	}
	entry, err := s.temp()
	if err != nil {
		return record{}, err
	}
	defer os.RemoveAll(entry) // gone by then, unless this fails
	expected := r.Digest
	if r.Digest, r.Size, err = s.store(ctx, filepath.Join(entry, programName), f, r.Digest, r.closed); err != nil {
		return record{}, err
	}
	if err := still(); err != nil {
		return record{}, err
	}
	if hasWriter(f) {
		return record{}, errUnsettled{"another process has it open for writing"}
	}
	if expected != "" && expected != r.Digest {
		return record{}, errUnsettled{"it was changed between two reads"}
	}
	r.ID = r.identity()
	if old, ok := s.stored(ctx, r.ID); ok {
		return s.again(old, r)
	}
	r.describe(f)
	return s.add(r, entry)
}

// watch makes the version of a program that stays where it is.
func (s *Store) watch(r record) (record, error) {
	entry, err := s.temp()
	if err != nil {
		return record{}, err
	}
	defer os.RemoveAll(entry)
	return s.add(r, entry)
}

// add writes the metadata of r into entry, a temporary directory that holds
// all the rest, and gives that its name.
func (s *Store) add(r record, entry string) (record, error) {
	s.mu.Lock()
	old, replaces := s.records[r.ID]
	full := !replaces && len(s.records) >= maxVersions
	s.mu.Unlock()
	if full {
		return record{}, fmt.Errorf("the store %s has %d versions, the most it may have; let go of some that are held", s.dir, maxVersions)
	}
	if replaces { // its program was damaged; what people said of it stays
		r.Created, r.Held = old.Created, old.Held
		if old.Proven {
			r.Settings, r.Proven = old.Settings, true
		}
	}
	text, err := r.encode()
	if err != nil {
		return record{}, err
	}
	if err := atomicfile.Write(filepath.Join(entry, metaName), text, 0o600); err != nil {
		return record{}, err
	}
	r.nameCopy(entry)
	if err := os.Chmod(entry, entryMode(r.closed)); err != nil {
		return record{}, err
	}
	// Nothing usable has this name (the caller looked), but a damaged entry may.
	if err := s.remove(r.ID); err != nil {
		return record{}, err
	}
	if err := os.Rename(entry, filepath.Join(s.dir, r.ID)); err != nil {
		return record{}, err
	}
	if err := atomicfile.SyncDir(s.dir); err != nil {
		_ = s.remove(r.ID)
		return record{}, err
	}
	s.mu.Lock()
	s.records[r.ID] = r
	s.mu.Unlock()
	return r, nil
}

// temp makes a directory that Open removes if this process cannot.
func (s *Store) temp() (string, error) {
	dir, err := os.MkdirTemp(s.dir, tempPrefix)
	if err != nil {
		return "", fmt.Errorf("make a directory in the store: %w", err)
	}
	return dir, nil
}
