package version

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/master/trust"
)

const maxHashed = 4 * maxVersions // digests remembered

// errDiffers: a file is there, and is not the one that was pinned.
type errDiffers struct{ path, want, have string }

func (e errDiffers) Error() string {
	return fmt.Sprintf("%s has the digest %s, pinned was %s", e.path, shortDigest(e.have), shortDigest(e.want))
}

// ExecutableBy returns the path to be executed for a version, now: the original
// while it has the pinned digest (os.Executable then says what people expect) and
// nobody else could exchange it before the exec, else the pinned copy while that has
// the digest. Files that have not changed since they were last read are not read
// again. When neither can be run, the error says why and what to do. Ask before each
// exec.
//
// A program below a home directory that the user it is run by may not enter is run
// from its pinned copy. Nil is the master's own user.
func (s *Store) ExecutableBy(ctx context.Context, id string, by *User) (path string, err error) {
	s.mu.Lock()
	r, ok := s.records[id]
	s.mu.Unlock()
	if !ok {
		return "", fmt.Errorf("run version %s: it is not in the store %s; reload to pin what is configured", id, s.dir)
	}
	fail := func(format string, args ...any) (string, error) {
		return "", fmt.Errorf("run version %s (%s): "+format, append([]any{r.Label, id}, args...)...)
	}
	original := s.checkOriginal(ctx, r)
	if original == nil {
		if original = by.reach(r.Resolved); original == nil {
			return r.Resolved, nil
		}
		if r.Mode == ModePath {
			return fail("%w; of a version in mode path no copy is kept (%s): let that user through, or put the program elsewhere", original, r.Why)
		}
	}
	if ctx.Err() != nil {
		return fail("%w", ctx.Err())
	}
	if r.Mode == ModePath {
		return fail("the program was replaced or is gone: %w; of a version in mode path no copy is kept (%s): put the program back, or reload to pin what is there", original, r.Why)
	}
	copied := r.pinned(s.dir)
	err = nil
	if s.isClosed(r) {
		err = s.admit(r, by)
	}
	if err == nil {
		err = s.checkPinned(ctx, r)
	}
	if err != nil {
		return fail("neither the original (%w) nor the pinned copy (%w) can be run; reload to pin the program again", original, err)
	}
	if err := by.reach(copied); err != nil {
		return fail("neither the original (%w) nor the pinned copy (%w) can be run; let that user pass through the state directory (mode 0711)", original, err)
	}
	return copied, nil
}

// checkOriginal tells whether the file at the path where the program came from
// is still that program.
func (s *Store) checkOriginal(ctx context.Context, r record) error {
	f, info, err := openProgram(r.Resolved, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not executable any more", r.Resolved)
	}
	if r.Guarded {
		if err := exchangeable(r.Resolved); err != nil {
			return err
		}
	}
	return s.verify(ctx, r.Resolved, f, info, r)
}

// exchangeable says who else could put another program at a path between the look at
// it and the exec.
func exchangeable(path string) error {
	if err := trust.Own().File(path); err != nil {
		return fmt.Errorf("others could exchange it: %w", err)
	}
	return nil
}

// checkPinned tells whether the copy in the store is still what was pinned.
func (s *Store) checkPinned(ctx context.Context, r record) error {
	path := r.pinned(s.dir)
	f, info, err := openProgram(path, syscall.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := ownedSafely(path, info); err != nil {
		return err
	}
	if err := s.verify(ctx, path, f, info, r); err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if want := copyMode(mode&0o004 == 0); mode&want != want { // a chmod is no harm that cannot be mended
		return f.Chmod(want)
	}
	return nil
}

// verify compares size first: it is free, and a half-written file fails it.
func (s *Store) verify(ctx context.Context, path string, f *os.File, info fs.FileInfo, r record) error {
	if info.Size() != r.Size {
		return fmt.Errorf("%s has %d bytes, pinned were %d", path, info.Size(), r.Size)
	}
	have, err := s.digestAt(ctx, path, f, info)
	if err != nil {
		return err
	}
	if have != r.Digest {
		return errDiffers{path, r.Digest, have}
	}
	return nil
}

// FileDigest is Digest, but a file that has not changed since this store read
// it is not read again: cheap enough to be asked for often.
func (s *Store) FileDigest(ctx context.Context, path string) (string, error) {
	f, info, err := openProgram(path, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return s.digestAt(ctx, path, f, info)
}

// digestAt returns the digest of the open file f that was found at path. It is
// read only if it could have changed since it was read last.
func (s *Store) digestAt(ctx context.Context, path string, f *os.File, info fs.FileInfo) (string, error) {
	at, sure := stampOf(info)
	s.mu.Lock()
	last, ok := s.hashed[path]
	s.mu.Unlock()
	if ok && sure && last.stamp == at {
		return last.digest, nil
	}
	begun := time.Now() // the files' clock, not the store's
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	digest, _, err := hashAll(ctx, f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	after, err := f.Stat()
	if err != nil {
		return "", err
	}
	if now, _ := stampOf(after); now != at {
		return "", errUnsettled{fmt.Sprintf("%s was changed while it was read", path)}
	}
	if sure && at.settled(begun) {
		s.mu.Lock()
		if len(s.hashed) >= maxHashed {
			clear(s.hashed)
		}
		s.hashed[path] = known{at, digest}
		s.mu.Unlock()
	}
	return digest, nil
}
