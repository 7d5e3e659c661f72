package journal

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Formats.
const (
	FormatAuto    = "auto"    // console on a terminal, else json
	FormatConsole = "console" // for people
	FormatJSON    = "json"    // one object a line
)

// Options say what is logged, and where.
type Options struct {
	Level   string // of the master's own lines: "debug", "info", "warn" or "error"; empty: info
	Format  string // empty: auto
	File    string // appended to; empty: Stderr
	Service string
	PID     int      // the master's
	Stderr  *os.File // nil: lines that cannot go to File are lost
	Color   bool     // the console's levels
	// Native is the socket of systemd's journal, where Stderr leads there; empty: it does
	// not, or is not known to. It is not used with a File.
	Native string
}

// Journal is where everything is logged. Its methods may be called from any goroutine.
type Journal struct {
	out   *writer
	level zap.AtomicLevel
	log   *zap.Logger
	pass  func(l api.LogLine, pid int) line
}

// Open opens the file, if there is one, and starts the writing. A file that cannot be
// opened keeps no master from what it is for: lines go to standard error then, see
// [Journal.Unopened].
func Open(o Options) (*Journal, error) {
	level, err := levelOf(o.Level)
	if err != nil {
		return nil, err
	}
	j := &Journal{level: zap.NewAtomicLevelAt(level)}
	core := &core{LevelEnabler: j.level, service: o.Service}
	var systemd *native
	if o.File == "" && o.Native != "" {
		systemd = &native{path: o.Native}
	}
	switch format := o.Format; {
	case format == FormatConsole, (format == "" || format == FormatAuto) && o.File == "" && terminal(o.Stderr):
		core.enc = consoleEncoder(o.Color)
		j.pass = func(l api.LogLine, _ int) line { return line{text: passConsole(l)} }
	case format == "", format == FormatAuto, format == FormatJSON:
		core.enc = jsonEncoder()
		core.enc.AddString("service_name", o.Service)
		core.enc.AddInt("master_pid", o.PID)
		pass := newJSONPasser(o.Service).pass
		j.pass = func(l api.LogLine, pid int) line { return line{text: pass(l, pid)} }
	default:
		return nil, fmt.Errorf("a log format %q does not exist: it is %s, %s or %s",
			format, FormatAuto, FormatConsole, FormatJSON)
	}
	if systemd != nil {
		core.message, j.pass = core.enc, withNative(o.Service, j.pass, o.Format == FormatJSON)
		if o.Format != FormatJSON {
			core.message = messageEncoder()
		}
	}
	j.out = newWriter(o.File, o.Stderr, systemd, core.note)
	core.out = j.out
	j.log = zap.New(core, zap.ErrorOutput(zapcore.AddSync(discard{})))
	if err := j.Unopened(); err != nil {
		j.log.Error("the log goes to standard error until its file can be opened by USR1", zap.Error(err))
	}
	return j, nil
}

// Logger is for the master's own lines. A worker's process is the field "worker_pid" in a
// line about one; "master_pid" is in each.
func (j *Journal) Logger() *zap.Logger { return j.log }

// Line passes on a line that a worker with this pid (0: not known) wrote.
func (j *Journal) Line(l api.LogLine, pid int) {
	text := j.pass(l, pid)
	text.workers = true
	j.out.put(text)
}

// Unopened says why the file has not been opened so far; nil: it was, or there is none.
func (j *Journal) Unopened() error { return j.out.unopened() }

// Reopen opens the file again by its name, after it was moved away. If that
// fails the old one stays in use, and both the error and the log say so.
func (j *Journal) Reopen() error {
	err := j.out.reopen()
	if err != nil {
		j.log.Error("the log file could not be opened again; the old one stays in use", zap.Error(err))
	}
	return err
}

// Trace makes a new trace id: 32 hex digits.
func (j *Journal) Trace() string {
	var id [16]byte
	rand.Read(id[:]) // never fails, never returns less
	return hex.EncodeToString(id[:])
}

// Close writes what is waiting, for at most 2 s, and closes the file.
func (j *Journal) Close() error { return j.out.close() }

func levelOf(name string) (zapcore.Level, error) {
	switch name {
	case "debug":
		return zapcore.DebugLevel, nil
	case "", "info":
		return zapcore.InfoLevel, nil
	case "warn":
		return zapcore.WarnLevel, nil
	case "error":
		return zapcore.ErrorLevel, nil
	}
	return 0, fmt.Errorf("a log level %q does not exist: it is debug, info, warn or error", name)
}

func terminal(f *os.File) bool {
	is := false
	_ = fdpass.Control(f, func(fd int) error { is = term.IsTerminal(fd); return nil })
	return is
}

// duplicate is f under another number: the runtime ends the process when a
// write to descriptor 1 or 2 finds nobody reading, and a supervisor must not
// die with whoever read its log.
func duplicate(f *os.File) *os.File {
	fd, err := fdpass.DuplicateOf(f)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), f.Name())
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// discard takes what zap says about a core that failed; ours does not.
type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
