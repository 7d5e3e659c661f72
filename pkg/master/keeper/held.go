package keeper

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
)

// What a keeper holds at most.
const (
	MaxHeld = 40_000  // descriptors; fewer where the limit of open files is lower
	MaxName = 512     // bytes of a name
	MaxMeta = 4 << 10 // bytes that go with one descriptor
)

// MaxGuard is how long a guard can stand.
const MaxGuard = time.Hour

// Held is a descriptor that the keeper holds, by its name.
type Held struct {
	Name string
	Meta []byte // what the master wants to know of it later; at most MaxMeta
	FD   int    // close-on-exec, and the receiver's to close
}

// Options say how a master joins its keeper.
type Options struct {
	// Path of the keeper's socket, absolute, in the service's runtime directory.
	Path string
	// Command is how a keeper is started: program and arguments before the
	// room's own. Nil is this program, by /proc/self/exe: that stays what runs,
	// whatever has become of its file. Its main function calls [Main] first.
	Command []string
	// Ready is called, in a goroutine of the registry's, when the keeper was lost, or was
	// not to be had at first, and there is one. It returns true once everything that is to
	// be held was put: the keeper is given that, and drops what else it holds. False: the
	// master ends, and the keeper is left as it is. Nil: at once.
	Ready func() bool
	Log   *zap.Logger
}

// Holder has descriptors held by name, beyond the death of this process. Its methods may
// be called from any goroutine and wait for no longer than 200 ms.
type Holder interface {
	// Put has fd held by a name, instead of what was held by it before, with what the next
	// who has it must know of it; meta is not changed any more. fd stays the caller's, who
	// keeps it open until the name was dropped, or another descriptor was put by it.
	Put(name string, meta []byte, fd int)
	// Drop has let go of what is held by a name, if anything. The descriptor is closed after
	// that, and not before.
	Drop(name string)
}

// Nobody is a [Holder] that holds nothing.
type Nobody struct{}

// Put does nothing.
func (Nobody) Put(string, []byte, int) {}

// Drop does nothing.
func (Nobody) Drop(string) {}

// Guard is what the keeper does should the master that has exec'd a new program
// not come back: it starts the old one.
type Guard struct {
	Program *os.File // the old program, open; an ELF file, for a script has no name to be read by
	Args    []string // with the program's name
	Env     []string
	Dir     string
	Stderr  *os.File // where its output goes; nil: nowhere
	// Report is who supervises the master, see [Reporter]: the old program becomes
	// its child, and it is told so. It needs Stderr. Nil: nobody does.
	Report *os.File
	For    time.Duration // how long the guard stands; at most MaxGuard
	// JoinWithin is how long the new program may take until it joins. One that
	// lives and does not is killed for hanging.
	JoinWithin time.Duration
}

// What a registry's error is.
var (
	ErrReplaced = errors.New("another master has joined the keeper, this one has no keeper any more")
	ErrLeft     = errors.New("the keeper was left")
)

func checkHeld(name string, meta []byte) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("a name has 1 to %d bytes, this one %d", MaxName, len(name))
	case len(meta) > MaxMeta:
		return fmt.Errorf("%d bytes go with it, the keeper takes %d", len(meta), MaxMeta)
	}
	return nil
}

func (g Guard) check() error {
	switch {
	case g.Program == nil || len(g.Args) == 0:
		return errors.New("a guard needs the program to be started, and its arguments")
	case g.Report != nil && g.Stderr == nil:
		return errors.New("a guard that reports needs a place for its output")
	case g.For <= 0 || g.For > MaxGuard || g.JoinWithin <= 0 || g.JoinWithin > g.For:
		return fmt.Errorf("a guard of %s that waits for %s: it may stand up to %s", g.For, g.JoinWithin, MaxGuard)
	}
	return nil
}

func (o *Options) check() error {
	switch {
	case !filepath.IsAbs(o.Path):
		return fmt.Errorf("the keeper's socket %q: its path must be absolute", o.Path)
	case len(o.Path) > ipc.MaxPath:
		return fmt.Errorf("the keeper's socket %q: its path has %d bytes, the kernel allows %d: choose a shorter "+
			"runtime_dir", o.Path, len(o.Path), ipc.MaxPath)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return nil
}
