package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/masterd/masterd/pkg/master/atomicfile"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	schema   = 1
	fileName = "state.json"
	prevName = "state.json.prev"       // the one before
	badName  = "state.json.unreadable" // the last one that could not be read, for whoever wants to look
	maxState = 1 << 20                 // bytes; beyond it something else wrote the file

	// After falling back to the previous state, generation numbers go on so much
	// higher: some that it does not know of may have been used.
	generationGap = 1000
)

// NewerError says that a newer masterd wrote the state. It is not fallen back
// from: the older state may name versions that are gone.
type NewerError struct {
	File   string
	Schema int
	Known  int    // up to which this masterd knows
	Advice string // what else to do than to run that one
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("read state %s: written by a newer masterd (schema %d, this one knows up to %d); run that one, or %s", e.File, e.Schema, e.Known, e.Advice)
}

// DamagedError says that neither the state nor the one before it can be used.
type DamagedError struct {
	File string
	Err  error // what is wrong with it, and with the previous one
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("read state %s: %v; move both files away to begin anew", e.File, e.Err)
}

func (e *DamagedError) Unwrap() error { return e.Err }

// RecoveredError comes beside a State that can be used: the file was damaged
// or gone, the State is the one before it.
type RecoveredError struct {
	File  string    // what could not be used
	Saved time.Time // when the one that is used was saved
	Err   error
}

func (e *RecoveredError) Error() string {
	return fmt.Sprintf("read state %s: %v; the one before it, of %s, is used", e.File, e.Err, e.Saved.Format(time.RFC3339))
}

func (e *RecoveredError) Unwrap() error { return e.Err }

// file is the form on disk. It is apart from rollout.State so that renaming a
// field there cannot make old files unreadable.
type file struct {
	Schema         int       `json:"schema"`
	Saved          time.Time `json:"saved"`
	NextGeneration uint64    `json:"next_generation"`
	Active         *version  `json:"active,omitempty"`
	Baked          *version  `json:"baked,omitempty"`
	Kept           []version `json:"kept,omitempty"`
	Closed         []string  `json:"closed,omitempty"`
	Hold           string    `json:"hold,omitempty"`
	HoldBy         string    `json:"hold_by,omitempty"`
}

type version struct {
	ID     string `json:"id"`
	Digest string `json:"digest"`
	Label  string `json:"label"`
}

// Load reads the state of the service whose state directory is dir. None yet
// is the zero State and no error. With a *RecoveredError the State is good to
// go on with, and the error one to be told; with any other it is zero.
func Load(dir string) (rollout.State, error) {
	path := filepath.Join(dir, fileName)
	current, err := read(path)
	var newer *NewerError
	switch {
	case err == nil:
		return current.state(), nil
	case errors.As(err, &newer):
		return rollout.State{}, err
	}
	previous, prevErr := read(filepath.Join(dir, prevName))
	switch {
	case prevErr == nil:
		s := previous.state()
		s.NextGeneration += generationGap
		return s, &RecoveredError{File: path, Saved: previous.Saved, Err: err}
	case errors.Is(err, fs.ErrNotExist) && errors.Is(prevErr, fs.ErrNotExist):
		return rollout.State{}, nil
	}
	return rollout.State{}, &DamagedError{File: path, Err: fmt.Errorf("%w; and the one before it: %w", err, prevErr)}
}

func read(path string) (file, error) {
	text, err := atomicfile.Read(path, maxState)
	if err != nil {
		return file{}, err
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return file{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if head.Schema > schema {
		return file{}, &NewerError{File: path, Schema: head.Schema, Known: schema, Advice: "move the file away to begin anew"}
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return file{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	if f.Schema < 1 {
		return file{}, fmt.Errorf("%s is damaged: it has no schema number", path)
	}
	return f, nil
}

// Save makes s durable and keeps the one before it beside it.
func Save(dir string, s rollout.State) error {
	text, err := json.MarshalIndent(fileOf(s, time.Now()), "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if len(text) >= maxState {
		return fmt.Errorf("save state: it has %d bytes, at most %d can be read again", len(text), maxState)
	}
	keepPrevious(dir)
	return atomicfile.Write(filepath.Join(dir, fileName), append(text, '\n'), 0o600)
}

// keepPrevious gives the current file a second name. A damaged one (or one that
// a newer masterd wrote) gets a name of its own: it must not take the place of
// the last good one, nor be lost. At no moment is there no file. A file system
// without links keeps no previous one.
func keepPrevious(dir string) {
	path, name := filepath.Join(dir, fileName), prevName
	if _, err := read(path); errors.Is(err, fs.ErrNotExist) {
		return
	} else if err != nil {
		name = badName
	}
	temp := filepath.Join(dir, name+".new")
	_ = os.Remove(temp) // of a master that was killed between the next two lines
	if os.Link(path, temp) != nil {
		return
	}
	if os.Rename(temp, filepath.Join(dir, name)) != nil {
		_ = os.Remove(temp)
	}
}

func fileOf(s rollout.State, now time.Time) file {
	f := file{
		Schema: schema, Saved: now.UTC().Round(0),
		NextGeneration: uint64(s.NextGeneration),
		Active:         versionOf(s.Active), Baked: versionOf(s.Baked),
		Closed: s.Closed, Hold: s.Hold, HoldBy: s.HoldBy,
	}
	for _, v := range s.Kept {
		f.Kept = append(f.Kept, version(v))
	}
	return f
}

func versionOf(v *rollout.Version) *version {
	if v == nil {
		return nil
	}
	copied := version(*v)
	return &copied
}

func (f file) state() rollout.State {
	s := rollout.State{
		NextGeneration: rollout.Generation(f.NextGeneration),
		Closed:         f.Closed, Hold: f.Hold, HoldBy: f.HoldBy,
	}
	if f.Active != nil {
		v := rollout.Version(*f.Active)
		s.Active = &v
	}
	if f.Baked != nil {
		v := rollout.Version(*f.Baked)
		s.Baked = &v
	}
	for _, v := range f.Kept {
		s.Kept = append(s.Kept, rollout.Version(v))
	}
	return s
}
