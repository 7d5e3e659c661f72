package master

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
)

// A master that starts takes over what the one before has left: the sockets
// from the keeper (or, should that have died with it, from the workers), the workers by their process ids, and what was decided from
// live.json. Its successor by `masterd upgrade` does the same. What serves is
// not touched; only what is missing is told again, when a worker has connected.

// adoptPatience is how long an adopted worker that is to leave has to connect
// again before it is signalled instead.
const adoptPatience = 5 * time.Second

// openKeeper joins the keeper, and reads what the last master has left.
func (m *Master) openKeeper() (*state.Live, held, error) {
	m.boot = state.Boot()
	h := held{notices: map[uint64]int{}, calls: map[uint64]int{}}
	left, err := state.LoadLive(m.cfg.RuntimeDir, m.boot)
	var newer *state.NewerError
	switch {
	case errors.As(err, &newer):
		return nil, h, err
	case err == nil && left != nil:
		err = rollout.CheckSnapshot(left.Machine)
	}
	if err != nil {
		left = nil
		m.log.Error("what the last master has left cannot be read; its workers cannot be taken over", zap.Error(err))
	}
	k, all, err := keeper.Join(keeper.Options{Path: filepath.Join(m.cfg.RuntimeDir, keeperSocket), Refill: m.holdAgain, Log: m.log})
	if err != nil {
		m.log.Error("there is no keeper: should this master die, what it holds is lost", zap.Error(err))
	} else {
		m.keeper = k
	}
	var blobs []blob.Held
	var files []fdstore.Held
	for _, k := range all {
		blobName, isBlob := strings.CutPrefix(k.Name, blobPrefix)
		notice, isNotice := notify.ID(k.Name)
		call, isCall := callsOf(k.Name)
		switch {
		case strings.HasPrefix(k.Name, listen.HeldPrefix):
			h.sockets = append(h.sockets, listen.Held{Name: k.Name, Meta: k.Meta, FD: k.FD})
		case isBlob:
			blobs = append(blobs, blob.Held{Name: blobName, Meta: k.Meta, FD: k.FD})
		case isNotice:
			h.notices[notice] = k.FD
		case isCall:
			h.calls[call] = k.FD
		case strings.HasPrefix(k.Name, fdstore.HeldPrefix):
			files = append(files, fdstore.Held{Name: k.Name, Meta: k.Meta, FD: k.FD})
		default:
			m.log.Warn("the keeper holds what this masterd does not know", zap.String("name", k.Name))
			closeFD(k.FD)
			m.drop(k.Name)
		}
	}
	m.inherits = left != nil || len(all) > 0
	m.before = left
	m.inheritBlobs(left, blobs, len(all) > 0)
	return left, h, m.inheritFiles(files)
}

// held is what the keeper has held for an earlier master, but for what is taken
// over at once.
type held struct {
	sockets []listen.Held
	notices map[uint64]int // sockets of sd_notify, by worker
	calls   map[uint64]int // seccomp listeners, by worker
}

// rest lets go of what no worker needs that was taken over.
func (m *Master) rest(h held) {
	for id, fd := range h.notices {
		closeFD(fd)
		m.drop(notify.HeldPrefix + strconv.FormatUint(id, 10))
	}
	for id, fd := range h.calls {
		closeFD(fd)
		m.drop(callsName(rollout.Worker(id)))
	}
}

// Tend is for the keeper, while there is no master: the output of workers is
// bounded, whatever they write.
func Tend(runtimeDir string) { logs.Bound(filepath.Join(runtimeDir, outputDir)) }

// holdAgain has a new keeper hold everything, unless the loop has ended. It is asked
// from outside of it.
func (m *Master) holdAgain() bool {
	return m.ask(func() {
		m.sockets.KeepAgain()
		m.blobs.KeepAgain()
		m.notices.KeepAgain()
		m.stored.KeepAgain()
		for _, w := range sorted(m.workers) {
			if w.calls != nil {
				w.calls.KeepAgain()
			}
		}
	})
}

// hold gives the keeper something. It is told in vain when it has died: then
// another one is given everything.
func (m *Master) hold(name string, meta []byte, fd int) {
	if err := m.keeper.Put(name, meta, fd); err != nil {
		m.log.Warn("the keeper cannot be given something", zap.String("name", name), zap.Error(err))
	}
}

func (m *Master) holdSocket(h listen.Held) { m.hold(h.Name, h.Meta, h.FD) }

func (m *Master) drop(name string) {
	if err := m.keeper.Drop(name); err != nil {
		m.log.Warn("the keeper cannot be told to let something go", zap.String("name", name), zap.Error(err))
	}
}

// processesLeft takes over the workers that the last master has left, those that
// still live. What runs decides which configuration is in force: the file may
// have changed since.
func (m *Master) processesLeft(l *state.Live, all map[uint64][]proc.Found) {
	versions := map[rollout.Generation]rollout.Version{}
	for _, g := range l.Machine.Generations {
		versions[g.ID] = g.Version
	}
	for _, g := range l.Generations {
		m.generationLeft(l, g, versions[rollout.Generation(g.ID)])
	}
	found := &rollout.Found{Snapshot: l.Machine, Alive: map[rollout.Worker]int{}}
	for _, lw := range l.Workers {
		if i := slices.IndexFunc(all[lw.ID], func(p proc.Found) bool { return p.Leads }); i >= 0 && lw.PID == 0 { // started just when the last master died
			lw.PID, lw.Begun = all[lw.ID][i].PID, all[lw.ID][i].Begun
		}
		if w := m.processLeft(lw); w != nil {
			found.Alive[w.id] = w.process.PID()
		}
	}
	if len(m.workers) == 0 {
		clear(m.generations)
		return
	}
	m.found, m.slots = found, max(m.slots, l.Slots)
	m.active = deployment{generation: rollout.Generation(l.Active.Generation), since: l.Active.Since, by: l.Active.By, why: l.Active.Why}
	if g := m.generations[m.active.generation]; g != nil {
		m.cfg, m.inForce = g.cfg, g.id
	}
}

func (m *Master) generationLeft(l *state.Live, lg state.LiveGeneration, ran rollout.Version) {
	cfg, err := m.configLeft(l, lg)
	if err != nil {
		m.log.Error("the configuration of a generation cannot be read any more; it goes on with the one in force", zap.Uint64("generation", lg.ID), zap.Error(err))
		cfg = m.cfg
	}
	v, ok := m.store.Get(lg.Version)
	if ok {
		cfg = asRunBy(cfg, v)
	} else {
		m.log.Error("the version of a generation is not in the store any more; it goes on, but cannot be started again", zap.Uint64("generation", lg.ID), zap.String("version", lg.Version))
		v = version.Version{ID: lg.Version, Digest: ran.Digest, Label: ran.Label}
	}
	id := rollout.Generation(lg.ID)
	m.generations[id] = &generation{
		id: id, cfg: cfg, version: v, checker: m.system.checker(cfg.Health), by: lg.By, why: lg.Why,
		rollout: rollout.Rollout(lg.Rollout), activated: lg.Activated, vetted: lg.Vetted,
	}
	m.lastRollout = max(m.lastRollout, rollout.Rollout(lg.Rollout))
}

// configLeft is what a generation runs with.
func (m *Master) configLeft(l *state.Live, g state.LiveGeneration) (*config.Config, error) {
	if g.Config < 0 || g.Config >= len(l.Configs) {
		return nil, fmt.Errorf("generation %d names configuration %d of %d", g.ID, g.Config, len(l.Configs))
	}
	c := l.Configs[g.Config]
	text, err := state.LoadConfig(m.cfg.RuntimeDir, c.Digest)
	if err != nil {
		return nil, err
	}
	cfg, err := m.opt.Parse(text)
	if err != nil {
		return nil, err
	}
	if c.Program != "" && c.Program != cfg.Worker.Command[0] {
		cfg = config.WithCommand(cfg, c.Program)
	}
	return cfg, nil
}

// processLeft takes over one process; nil: it is gone.
func (m *Master) processLeft(l state.LiveWorker) *worker {
	g := m.generations[rollout.Generation(l.Generation)]
	if g == nil || l.PID == 0 {
		return nil
	}
	p, err := m.system.adopt(l.PID, l.Begun, l.Group)
	if err != nil {
		if !errors.Is(err, proc.ErrGone) {
			m.log.Error("a worker of the last master cannot be taken over", zap.Uint64("worker", l.ID), zap.Int("pid", l.PID), zap.Error(err))
		}
		return nil
	}
	w := &worker{
		id: rollout.Worker(l.ID), generation: g, slot: rollout.Slot(l.Slot), started: l.Started, process: p, finished: make(chan struct{}),
		begun: l.Begun, secret: secret{l.Secret, l.SecretNext, l.Renewed}, protocol: l.Protocol, uid: l.UID, handed: l.Handed, paused: l.Paused, leaving: l.Leaving, announced: l.Announced,
		stopped: l.Stopped, parkedAt: l.ParkedAt, away: l.Secret != "",
		foreign:    foreign{group: l.Group, asked: l.Asked, saysReady: l.SaysReady, says: l.Says, errno: l.Errno, access: notify.Access(l.NotifyAccess), bound: l.Bound},
		background: background{runs: l.Works, waits: l.WorkWaits, toldEnd: l.WorksUntil},
	}
	g.slot, g.last = w.slot, max(g.last, w.id)
	m.workers[w.id] = w
	m.log.Info("worker taken over", m.fields(w)...)
	return w
}

// workerOf is the worker of this service that was started with an environment.
func (m *Master) workerOf(env []string) (id uint64, ok bool) {
	if !slices.Contains(env, ipc.EnvRuntimeDir+"="+m.opt.Config.RuntimeDir) {
		return 0, false
	}
	for _, e := range env {
		if v, is := strings.CutPrefix(e, ipc.EnvWorker+"="); is {
			n, err := strconv.ParseUint(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// listenersNeeded are those of the configuration in force and of all that runs.
func (m *Master) listenersNeeded() []config.Listener {
	all := slices.Clone(m.cfg.Listeners)
	for _, g := range sorted(m.generations) {
		for _, l := range g.cfg.Listeners {
			if !slices.ContainsFunc(all, func(x config.Listener) bool { return listen.Same(x, l) }) {
				all = append(all, l)
			}
		}
	}
	return all
}

// holdersLeft are the workers that were found: should the keeper have died with
// the last master, its sockets are still to be had from them.
func (m *Master) holdersLeft() []listen.Holder {
	var all []listen.Holder
	for _, w := range sorted(m.workers) {
		all = append(all, listen.Holder{Slot: int(w.slot), PID: w.process.PID()})
	}
	return all
}

// sharesLeft are where new connections went when the last master died, as far as it
// could note it.
func sharesLeft(l *state.Live) []listen.Share {
	if l == nil {
		return nil
	}
	return sharesOf(l.Machine.Have)
}

// takeOver gives the workers that were found their rooms: their output, their
// slots, and a place at the control socket.
func (m *Master) takeOver(h held) {
	defer func() { m.rest(h) }()
	for _, w := range sorted(m.workers) {
		g := w.generation
		m.sockets.Name(int(w.slot), g.cfg.Listeners)
		output, err := m.output.Adopt(logs.Ident{
			Worker: uint64(w.id), Generation: uint64(g.id), Version: g.version.Label, UID: w.uid, PID: w.process.PID,
			PerWorker: g.cfg.Log.PerWorker, Line: g.cfg.Log.Line,
		})
		if err != nil {
			m.log.Error("the output of a worker is lost to masterd", append(m.fields(w), zap.Error(err))...)
			output = lostOutput{}
		}
		w.output = output
		if w.secret.hash != "" {
			// The socket is a new one: it was the master's user's so far.
			if err := m.sessions.Own(w.uid, -1); err != nil {
				m.log.Error("a worker cannot come back: the control socket cannot be given to its user", append(m.fields(w), zap.Error(err))...)
			}
			m.expect(w, "")
			w.session.SetPID(w.process.PID())
		}
		if w.session == nil {
			m.takeOverForeign(w, h)
		}
		if w.handed || w.session == nil {
			m.manned(w)
		}
	}
}

// manned notes that a worker has its slots.
func (m *Master) manned(w *worker) {
	names := w.generation.names()
	if bindsItself(w.generation.cfg) {
		names = w.bound
	}
	if err := m.sockets.Manned(int(w.slot), names, uint64(w.generation.id)); err != nil {
		m.log.Error("a worker's slot is not there", append(m.fields(w), zap.Error(err))...)
	}
}

// followAdopted has the ends of adopted workers told, once the loop runs.
func (m *Master) followAdopted() {
	if m.found == nil {
		return
	}
	m.endUnknown()
	for _, w := range sorted(m.workers) {
		m.beside(func() { m.awaitEnd(w, w.process, w.replaced) })
	}
	time.AfterFunc(adoptPatience, func() { m.at(m.catchUp) })
}

// waits: a worker that is to be told something has not come back to this master
// yet, or those that it gives to have not: then it would have no other place for
// its clients. What it is to be told is kept for when they are.
func (m *Master) waits(w *worker, c rollout.Command) bool {
	w.untold = nil
	if w.session == nil || time.Since(m.started) > adoptPatience || !w.away && !m.takersAway(w) {
		return false
	}
	w.untold = c
	return true
}

func (m *Master) takersAway(w *worker) bool {
	return slices.ContainsFunc(w.gives, func(id rollout.Worker) bool {
		to := m.workers[id]
		return to != nil && to.away
	})
}

// catchUp tells workers what has waited until now.
func (m *Master) catchUp() {
	for _, w := range sorted(m.workers) {
		if c := w.untold; c != nil {
			m.perform(c) // or it waits on
		}
	}
}

// welcomeBack finds out what a worker that has come back has missed: what the
// last master had decided and not said.
func (m *Master) welcomeBack(w *worker, h *ipc.Hello) {
	w.away = false
	if len(h.Listeners) > 0 && !w.handed { // the last master died before it could note it
		w.handed = true
		m.manned(w)
	}
	if w.untold != nil || w.leaving {
		return
	}
	switch phase := m.phaseOf(w.id); {
	case (phase == rollout.PhaseActive || phase == rollout.PhaseActivating) && h.State != ipc.StateActive:
		w.untold = rollout.Activate{Worker: w.id}
	case phase == rollout.PhaseParked && h.State == ipc.StateActive:
		w.untold = rollout.Park{Worker: w.id}
	}
}

// phaseOf is what the machine takes a worker to be.
func (m *Master) phaseOf(id rollout.Worker) rollout.Phase {
	for _, g := range m.machine.Status().Generations {
		for _, w := range g.Workers {
			if w.ID == id {
				return w.Phase
			}
		}
	}
	return ""
}

// sorted are a table's values in the order of its keys.
func sorted[K cmp.Ordered, V any](table map[K]V) []V {
	all := make([]V, 0, len(table))
	for _, k := range slices.Sorted(maps.Keys(table)) {
		all = append(all, table[k])
	}
	return all
}

// lostOutput stands for files that are gone.
type lostOutput struct{}

func (lostOutput) FDs() (int, int) { return -1, -1 }
func (lostOutput) Started()        {}
func (lostOutput) Finish()         {}

// noKeeper stands where there is none.
type noKeeper struct{}

func (noKeeper) Put(string, []byte, int) error { return nil }
func (noKeeper) Drop(string) error             { return nil }
func (noKeeper) Guard(keeper.Guard) error      { return errors.New("there is no keeper") }
func (noKeeper) Unguard() error                { return nil }
func (noKeeper) PID() int                      { return 0 }
func (noKeeper) End() error                    { return nil }
func (noKeeper) Leave()                        {}

// noNotices stands where workers are not heard by sd_notify.
type noNotices struct{}

func (noNotices) Add(notify.Worker) (string, error) { return "", nil }
func (noNotices) Adopt(notify.Worker, int) error    { return nil }
func (noNotices) Begin(uint64, int)                 {}
func (noNotices) Main(uint64, int)                  {}
func (noNotices) Heard(uint64, time.Duration)       {}
func (noNotices) Forget(uint64)                     {}
func (noNotices) KeepAgain()                        {}
func (noNotices) PassPidfds()                       {}
func (noNotices) Close()                            {}

// noStore stands where no descriptors are stored.
type noStore struct{}

func (noStore) Add(string, []int, bool, int) error { return errors.New("nothing is stored here") }
func (noStore) Remove(string)                      {}
func (noStore) Files() ([]fdstore.File, error)     { return nil, nil }
func (noStore) KeepAgain()                         {}
func (noStore) Close()                             {}
