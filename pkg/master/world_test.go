package master

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/journal"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

// world is the fake of everything outside the loop. It runs on the clock of a
// synctest bubble: a start that takes a minute costs no time.
type world struct {
	t  *testing.T
	mu sync.Mutex

	program      string // what lies at the path: the version pinned next
	versions     map[string]version.Version
	behave       map[string]behaviour // by program
	workers      map[uint64]*fakeWorker
	steered      []listen.Share // now
	sticky       uint32         // the salt that came with them
	steerings    [][]listen.Share
	lastAssigned int // by the loop, just before Activate
	saved        []rollout.State
	diskFull     bool
	memory       rollout.Memory
	lines        map[uint64][]string
	quiet        func(slot int)
	passed       []int               // connections that workers were given to serve
	settled      [][]config.Listener // by each Settle
	retained     [][]config.Listener // by each Retain
	pids         int
	clients      conns.Open // of every foreign worker
	pool         atomic.Int32
	whole        string // why the sockets cannot split new connections
	counters     countersDisk
}

// behaviour is how workers of one program are.
type behaviour struct {
	fork     time.Duration // until there is a process: its binary is large, or the disk slow
	boot     time.Duration // from spawn to ready
	exit     time.Duration // from spawn to an exit by itself; zero: never
	hang     bool          // never ready
	sick     bool          // fails its checks
	gone     bool          // has ended, which is not told yet; what it has left behind answers its checks
	noSpawn  bool          // cannot be executed
	deafTERM bool          // ignores everything but KILL
	drains   bool          // and never finishes by itself
	mute     bool          // does not beat once it drains
	farewell ipc.Stats     // what it says of itself when it has drained
	immortal bool          // hangs in the kernel: not even that ends it
	crowd    time.Duration // that a look at all processes there are takes
	crowded  bool          // has more to read than it does: no room for connections
	older    bool          // its SDK is of an older release
}

func newWorld(t *testing.T) *world {
	return &world{
		t: t, program: "v1", versions: map[string]version.Version{}, behave: map[string]behaviour{},
		workers: map[uint64]*fakeWorker{},
		lines:   map[uint64][]string{},
	}
}

// install puts a program at the path.
func (w *world) install(program string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.program = program
}

// of finds a living worker of a program.
func (w *world) of(program string) *fakeWorker {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.workers {
		if f.program == program {
			return f
		}
	}
	w.t.Fatalf("no worker of %s lives", program)
	return nil
}

// is says how workers of a program behave from now on.
func (w *world) is(program string, b behaviour) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.behave[program] = b
}

func (w *world) timesSteered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.steerings)
}

// master makes a master in this world; the test runs it.
func (w *world) master(cfg *config.Config) *Master {
	w.t.Helper()
	dir := w.t.TempDir()
	j, err := journal.Open(journal.Options{Level: "debug", Format: "json", File: filepath.Join(dir, "log"),
		Service: "test"})
	if err != nil {
		w.t.Fatal(err)
	}
	h, err := history.Open(filepath.Join(dir, "history"), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	m := newMaster(Options{Config: cfg, Reread: func() (*config.Config, error) { c := *cfg; return &c, nil }, Journal: j})
	w.t.Cleanup(func() { _ = j.Close() })
	m.open.history, m.open.store, m.open.sockets, m.open.sessions, m.open.output = h, w, w, w, fakeOutputs{w}
	m.system = system{
		System: workers.System{
			Spawn:     w.spawn,
			Checker:   func(config.Health) workers.Checker { return w },
			Bounding:  func() uint64 { return ^uint64(0) },
			Processes: func(int) uint64 { return 0 },
			Monotonic: monotonic,
			Groups:    func() map[int][]int { return nil },
			Listening: func([]int) ([]netip.AddrPort, error) { return nil, nil },
			Conns:     func([]int, []netip.AddrPort, []string) (conns.Open, error) { return w.open(), nil },
		},
		memory:   func([][]int) rollout.Memory { w.mu.Lock(); defer w.mu.Unlock(); return w.memory },
		pressure: func() (bool, string) { return false, "" },
		usage:    func(int) memory.Usage { return memory.Usage{} },
		takeover: takeover.System{Find: func(string, func([]string) bool) []process.Found { return nil },
			KeepCounters: w.counters.keep},
		save: w.save,
		load: func(string) (rollout.State, error) { return rollout.State{}, nil },
	}
	m.wire()
	w.pool.Store(16)
	m.machine = rollout.New(rollout.Options{Slots: 16, Rand: rand.New(rand.NewPCG(1, 2)),
		Violated: func(what string) { w.t.Errorf("invariant: %s", what) }})
	w.quiet = func(slot int) { m.postEvent(rollout.SlotQuiet{Slot: rollout.Slot(slot)}) }
	m.inheritBlobs()
	return m
}

func testConfig() *config.Config {
	return &config.Config{
		File: "/etc/masterd/test.yaml", Service: "test", RuntimeDir: "/run/test", StateDir: "/var/lib/test",
		Listeners: []config.Listener{{Name: "http", Network: "tcp", Address: "tcp://127.0.0.1:80", Steering: "auto"}},
		Worker:    config.Worker{Kind: config.KindSDK, Command: []string{"/bin/app"}, Processes: 1, StopSignal: "TERM"},
		Health: config.Health{
			HTTP:   &config.HTTPCheck{Listener: "http", Path: "/healthz"},
			Start:  config.StartCheck{Interval: 50 * time.Millisecond, Successes: 2, Timeout: time.Minute},
			Active: config.ActiveCheck{Interval: 2 * time.Second, Timeout: time.Second, Failures: 3},
		},
		Rollout: config.Rollout{Bake: 5 * time.Minute, Surge: "all", Cooldown: 10 * time.Second, MaxPerMinute: 6,
			KeepVersions: 5, Memory: config.Memory{WhenShort: "refuse"}},
		Drain:       config.Drain{Timeout: 5 * time.Minute, MaxGenerations: 4, KillAfter: 5 * time.Second},
		Restart:     config.Restart{Initial: 100 * time.Millisecond, Max: 10 * time.Second, Loop: 5, LoopWindow: time.Minute},
		Unavailable: config.Unavailable{After: 5 * time.Second, Answer: "503"},
		StopTimeout: time.Minute,
		State:       config.State{Blob: 1 << 20, Total: 4 << 20, Count: 8},
	}
}

// serving names the programs that new connections go to.
func (w *world) serving() (programs []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.workers {
		for _, s := range w.steered {
			if f.slot == s.Slot && f.accepting && !slices.Contains(programs, f.program) {
				programs = append(programs, f.program)
			}
		}
	}
	slices.Sort(programs)
	return programs
}

// living counts processes.
func (w *world) living() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.workers)
}

// crash ends every worker of a program.
func (w *world) crash(program string) {
	w.mu.Lock()
	var victims []*fakeWorker
	for _, f := range w.workers {
		if f.program == program {
			victims = append(victims, f)
		}
	}
	w.mu.Unlock()
	for _, f := range victims {
		f.end(proc.Exit{Code: 2})
	}
}

// Versions.

func (w *world) Pin(_ context.Context, s version.Source) (version.Version, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v := version.Version{ID: w.program, Digest: "sha256:" + w.program, Label: w.program, Program: s.Program,
		Args: s.Args, Env: s.Env}
	w.versions[v.ID] = v
	return v, nil
}

func (w *world) Get(id string) (version.Version, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v, ok := w.versions[id]
	return v, ok
}

func (w *world) Resolve(id string) (version.Version, error) {
	v, ok := w.Get(id)
	if !ok {
		return v, fmt.Errorf("there is no version %s", id)
	}
	return v, nil
}

func (w *world) ExecutableBy(_ context.Context, id string, _ *version.User) (string, error) {
	return "/store/" + id, nil
}
func (w *world) FileDigest(context.Context, string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return "sha256:" + w.program, nil
}
func (w *world) List() []version.Version                       { return nil }
func (w *world) Hold(string, bool) error                       { return nil }
func (w *world) Diff(string, string) ([]version.Change, error) { return nil, nil }
func (w *world) Prove(string, json.RawMessage) error           { return nil }
func (w *world) Prune(int, map[string]bool) ([]string, error)  { return nil, nil }
func (w *world) Check(_ context.Context, p probe.Worker, _ probe.Dialer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.workers[p.ID]
	switch {
	case f == nil:
		return errors.New("connection refused")
	case w.behave[f.program].sick:
		w.lines[p.ID] = append(w.lines[p.ID], fmt.Sprintf("127.0.0.1:%d - \"GET /healthz HTTP/1.1\" 500", 40000+len(w.lines[p.ID])))
		return errors.New("GET /healthz: 500 Internal Server Error")
	}
	return nil
}
func (w *world) Reach(ctx context.Context, dial probe.Dialer) error {
	_, err := dial(ctx)
	return err
}

func (w *world) Warm(context.Context, probe.Worker, probe.Dialer) (int, int, error) { return 0, 0, nil }

func (w *world) save(_ string, s rollout.State) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.diskFull {
		return errors.New("no space left on device")
	}
	w.saved = append(w.saved, s)
	return nil
}

// Sockets.

func (w *world) Man(slot int, names []string, _ uint64) ([]listen.File, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastAssigned = slot
	files := make([]listen.File, len(names))
	for i, n := range names {
		files[i] = listen.File{Name: n, FD: -1}
	}
	return files, nil
}

func (w *world) Name(int, []config.Listener) {}

func (w *world) Slots() int { return int(w.pool.Load()) }

func (w *world) Grow(slots int) error {
	if slots > int(w.pool.Load()) {
		w.pool.Store(int32(slots))
	}
	return nil
}

func (w *world) Quarantine(slot int) {
	time.AfterFunc(10*time.Millisecond, func() { w.quiet(slot) })
}

func (w *world) Steer(shares []listen.Share, sticky uint32) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steered, w.sticky = shares, sticky
	w.steerings = append(w.steerings, shares)
	return nil
}

func (w *world) CanSplit(ls []config.Listener) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.whole == "" || len(ls) == 0 {
		return nil
	}
	return &listen.Error{Listener: ls[0].Name, Address: ls[0].Address, Err: errors.New(w.whole)}
}

func (w *world) Shared() []string            { return nil }
func (w *world) Add([]config.Listener) error { return nil }
func (w *world) Retain(ls []config.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.retained = append(w.retained, ls)
}
func (w *world) Settle(ls []config.Listener) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = append(w.settled, ls)
	return nil
}
func (w *world) Status() []api.Listener { return nil }
func (w *world) ProbeDial(context.Context, int, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

// Close closes the sockets and the sessions.
func (w *world) Close() error { return nil }

// Sessions and processes: one fakeWorker is both.

type fakeWorker struct {
	w         *world
	id        uint64
	pid       int
	program   string
	slot      int
	fact      func(session.Fact)
	accepting bool
	parked    bool
	gives     []uint64
	shares    []ipc.Split // of which it was told, one after the other
	compares  []*ipc.Compare
	links     uint64 // over which it was to give
	deafTERM  bool
	muted     atomic.Bool
	announced atomic.Bool
	once      sync.Once
	done      chan struct{}
	exit      proc.Exit
	replies   chan reply // to what it asks to be kept
}

// reply is the answer to a request.
type reply struct {
	ipc.Blob
	refused string
	fd      int // the master's
}

func (w *world) Places(int, []string) ([]listen.Place, error) { return nil, nil }
func (w *world) Quiesce(int) func() bool                      { return func() bool { return true } }

// open is what the kernel says of a worker's connections.
func (w *world) open() conns.Open {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clients
}

func (w *world) Assigned(int, []string, uint64) error { return nil }
func (w *world) Leave() error                         { return nil }

func (w *world) Expect(e session.Expect) workers.Control {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &fakeWorker{w: w, id: e.Worker, fact: e.Fact, done: make(chan struct{}), slot: -1, replies: make(chan reply, 64)}
	w.workers[e.Worker] = f
	return f
}

func (w *world) Forget(id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.workers, id)
}

func (w *world) spawn(s proc.Spec) (workers.Process, error) {
	w.mu.Lock()
	fork := w.behave[filepath.Base(s.Program)].fork
	w.mu.Unlock()
	time.Sleep(fork)
	w.mu.Lock()
	defer w.mu.Unlock()
	var id uint64
	for _, e := range s.Env {
		if v, ok := strings.CutPrefix(e, ipc.EnvWorker+"="); ok {
			id, _ = strconv.ParseUint(v, 10, 64)
		}
	}
	f := w.workers[id]
	f.program = filepath.Base(s.Program)
	b := w.behave[f.program]
	if b.noSpawn {
		return nil, fmt.Errorf("%s: permission denied", s.Program)
	}
	w.pids++
	f.pid, f.deafTERM = 1000+w.pids, b.deafTERM
	if !b.hang {
		time.AfterFunc(b.boot, func() { f.say(session.Fact{Kind: session.Ready}) })
	}
	if b.exit > 0 {
		time.AfterFunc(b.exit, func() { f.end(proc.Exit{Code: 1}) })
	}
	go f.beat()
	return f, nil
}

// beat says each second that it lives.
func (f *fakeWorker) beat() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if !f.muted.Load() {
				f.say(session.Fact{Kind: session.Beat, Stats: &ipc.Stats{Open: 3, InFlight: 1, LongestMS: 1500}})
			}
		case <-f.done:
			return
		}
	}
}

func (f *fakeWorker) say(fact session.Fact) {
	select {
	case <-f.done:
	default:
		f.fact(fact)
	}
}

func (f *fakeWorker) end(e proc.Exit) {
	f.w.mu.Lock()
	immortal := f.w.behave[f.program].immortal
	f.w.mu.Unlock()
	if immortal {
		return
	}
	f.once.Do(func() {
		f.w.mu.Lock()
		f.exit, f.accepting = e, false
		f.w.lines[f.id] = append(f.w.lines[f.id], "panic: the last words of "+f.program)
		f.w.mu.Unlock()
		close(f.done)
	})
}

func (f *fakeWorker) SignalAlone(sig syscall.Signal) error { return f.Signal(sig) }
func (f *fakeWorker) Spare(bool)                           {}
func (f *fakeWorker) Contained() bool                      { return false }
func (f *fakeWorker) Filter() int                          { return -1 }
func (f *fakeWorker) PID() int                             { return f.pid }
func (f *fakeWorker) Done() <-chan struct{}                { return f.done }
func (f *fakeWorker) Exit() proc.Exit                      { return f.exit }
func (f *fakeWorker) Ended() bool {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	return f.w.behave[f.program].gone
}
func (f *fakeWorker) SetOOMScoreAdj(int) error {
	f.w.mu.Lock()
	crowd := f.w.behave[f.program].crowd
	f.w.mu.Unlock()
	time.Sleep(crowd)
	return nil
}
func (f *fakeWorker) Close()                {}
func (f *fakeWorker) SetPID(int)            {}
func (f *fakeWorker) Inherit() (int, error) { return -1, syscall.ENOSYS }
func (f *fakeWorker) Renew(string) error    { return nil }
func (f *fakeWorker) Connected() bool       { return true }
func (f *fakeWorker) Spoke() bool           { return true }
func (f *fakeWorker) Pause() error          { return nil }
func (f *fakeWorker) Resume() error         { return nil }
func (f *fakeWorker) Dump() error           { return nil }
func (f *fakeWorker) Announce() error       { f.announced.Store(true); return nil }
func (f *fakeWorker) Stay() error           { return f.gave(-1, ipc.Peer{}) }

// monotonic is the clock of the bubble that a test runs in.
func monotonic() time.Duration { return time.Duration(time.Now().UnixNano()) }

// Compare notes what it was asked to count. Its answer would repeat the number.
func (f *fakeWorker) Compare(c *ipc.Compare) (uint64, error) {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	f.compares = append(f.compares, c)
	return uint64(len(f.compares)), nil
}
func (f *fakeWorker) Heard(time.Duration) {}
func (f *fakeWorker) Park() error         { f.w.mu.Lock(); f.parked = true; f.w.mu.Unlock(); return nil }

// gave notes to whom it was told to give. Nothing is moved here.
func (f *fakeWorker) gave(fd int, to ipc.Peer) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if fd < 0 || to.Instead {
		f.gives = nil
	}
	if fd >= 0 {
		f.gives = append(f.gives, to.Worker)
		return syscall.Close(fd)
	}
	return nil
}

func (f *fakeWorker) Kept(_ uint64, b ipc.Blob) error { return f.told(reply{Blob: b, fd: -1}) }
func (f *fakeWorker) Refuse(_ uint64, why string) error {
	return f.told(reply{refused: why, fd: -1})
}
func (f *fakeWorker) Blob(_ uint64, b ipc.Blob, fd int) error { return f.told(reply{Blob: b, fd: fd}) }

// told hands an answer to the test, if it waits for one.
func (f *fakeWorker) told(r reply) error {
	if f.replies != nil {
		f.replies <- r
	}
	return nil
}

func (f *fakeWorker) Give(fd int, to ipc.Peer) error { return f.gave(fd, to) }

const refusal = "what is a split?"

// Split has an SDK of an older release refuse it: such a worker gives nothing.
func (f *fakeWorker) Split(fd int, to ipc.Peer, share ipc.Split) (uint64, error) {
	f.w.mu.Lock()
	f.links++
	f.shares = append(f.shares, share)
	seq, older := f.links, f.w.behave[f.program].older
	f.w.mu.Unlock()
	if older {
		go f.say(session.Fact{Kind: session.Refused, Seq: seq, Text: refusal})
		return seq, syscall.Close(fd)
	}
	return seq, f.gave(fd, to)
}

func (f *fakeWorker) Take(fd int, _ ipc.Peer) error { return syscall.Close(fd) }

func (f *fakeWorker) Capacity() int {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if f.w.behave[f.program].crowded {
		return 0
	}
	return 1
}

func (f *fakeWorker) Conn(_, purpose string, fd int) error {
	f.w.mu.Lock()
	defer f.w.mu.Unlock()
	if purpose == ipc.PurposeServe {
		f.w.passed = append(f.w.passed, fd)
	}
	return nil
}

func (f *fakeWorker) Signal(sig syscall.Signal) error {
	switch {
	case sig == syscall.SIGKILL:
		go f.end(proc.Exit{Signal: sig})
	case !f.deafTERM:
		go f.end(proc.Exit{})
	}
	return nil
}

// Activate hands over the slot that was assigned to it just before.
func (f *fakeWorker) Activate(names []string, _ []int) error {
	f.w.mu.Lock()
	f.gives = nil
	if len(names) > 0 {
		f.slot = f.w.lastAssigned
	}
	f.w.mu.Unlock()
	go func() {
		f.w.mu.Lock()
		f.accepting, f.parked = true, false
		f.w.mu.Unlock()
		f.say(session.Fact{Kind: session.Accepting})
	}()
	return nil
}

func (f *fakeWorker) ActivateWaiting(names []string, fds []int) error { return f.Activate(names, fds) }

func (f *fakeWorker) Drain(time.Duration) error {
	f.w.mu.Lock()
	b := f.w.behave[f.program]
	f.muted.Store(b.mute)
	f.w.mu.Unlock()
	if b.drains {
		return nil
	}
	go func() {
		f.say(session.Fact{Kind: session.Drained, Stats: &b.farewell})
		f.end(proc.Exit{})
	}()
	return nil
}

// Output.

type fakeOutputs struct{ w *world }

func (o fakeOutputs) Add(logs.Ident) (workers.Output, error)   { return fakeOutput{}, nil }
func (o fakeOutputs) Adopt(logs.Ident) (workers.Output, error) { return fakeOutput{}, nil }
func (o fakeOutputs) Lines(worker uint64, n int) (lines []api.LogLine) {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	for _, l := range o.w.lines[worker] {
		lines = append(lines, api.LogLine{Worker: worker, Text: l})
	}
	return lines
}
func (o fakeOutputs) Follow(context.Context, uint32, uint64, int) (<-chan api.LogLine, error) {
	return nil, errors.ErrUnsupported
}
func (o fakeOutputs) Dropped(uint64) uint64 { return 0 }
func (o fakeOutputs) Close() error          { return nil }

type fakeOutput struct{}

func (fakeOutput) FDs() (int, int) { return -1, -1 }
func (fakeOutput) Started()        {}
func (fakeOutput) Finish()         {}
