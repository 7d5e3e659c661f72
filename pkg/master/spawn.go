package master

import (
	"cmp"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/version"
)

// spawn starts the process. It runs beside the loop: the program's digest is
// computed on the way.
func (m *Master) spawn(w *worker, secret string, as *version.User) (process, error) {
	g := w.generation
	program, err := m.store.ExecutableBy(m.life, g.version.ID, as)
	if err != nil {
		return nil, err
	}
	var fromFiles []string
	for _, f := range g.version.EnvFiles {
		vars, err := g.variables(f)
		if err != nil {
			return nil, err
		}
		fromFiles = append(fromFiles, vars...)
	}
	extra := proc.LoginEnv(g.cfg.Worker.User)
	maps.Copy(extra, m.opt.WorkerEnv)
	maps.Copy(extra, g.version.Env)
	stdout, stderr := w.output.FDs()
	spec := proc.Spec{
		Shim: m.opt.Shim, Program: program, Args: g.version.Args, Dir: g.version.Dir,
		User: g.cfg.Worker.User, Group: g.cfg.Worker.Group, NoFile: g.cfg.Worker.NoFile,
		OOMScoreAdj: candidateScore, Stdout: stdout, Stderr: stderr,
	}
	m.bind(&spec, &g.cfg.Worker, as.UID)
	extra[ipc.EnvRuntimeDir] = m.opt.Config.RuntimeDir
	extra[ipc.EnvWorker] = strconv.FormatUint(uint64(w.id), 10)
	if g.cfg.Worker.Kind == config.KindSDK {
		extra[ipc.EnvControl] = filepath.Join(m.opt.Config.RuntimeDir, ControlSocket)
		extra[ipc.EnvSecret] = secret
		extra[ipc.EnvGeneration] = strconv.FormatUint(uint64(g.id), 10)
		extra[ipc.EnvService] = g.cfg.Service
		extra[ipc.EnvVersion] = g.version.Label
		if fd, err := m.inherit(w, &spec, extra); err != nil {
			m.log.Warn("a worker is started without its control connection, and will look for the control socket by its path", append(m.fields(w), zap.Error(err))...)
		} else {
			defer ipc.CloseCopies(fd)
		}
	} else {
		files, err := m.equip(w, &spec, extra)
		defer ipc.CloseCopies(files...)
		if err != nil {
			return nil, err
		}
	}
	spec.Env = proc.CleanEnv(extra, fromFiles)
	group := m.place(w, &spec)
	p, err := m.system.spawn(spec)
	if group >= 0 {
		ipc.CloseCopies(group)
	}
	return p, err
}

// bind takes from a worker what it is not to have of the master's.
func (m *Master) bind(spec *proc.Spec, c *config.Worker, uid int) {
	spec.NoNewPrivileges = c.NoNewPrivs == "yes" || c.NoNewPrivs == "auto" && uid != os.Geteuid()
	if uid == 0 || !spec.NoNewPrivileges {
		spec.Bounding = c.Bounding()
		if names := c.Beyond(m.system.bounding()); len(names) > 0 {
			m.log.Warn("worker.capabilities asks for what the master has not got itself, so workers are started without; if a unit started it, type: systemctl edit UNIT, and add CapabilityBoundingSet="+strings.Join(names, " ")+" below [Service]", zap.Strings("capabilities", names))
		}
	}
	spec.Processes = cmp.Or(c.NProc, m.system.processes(uid))
	if size, ok := map[string]int64{"none": 0, "unlimited": -1}[c.Core]; ok {
		spec.Core = &size
	}
}

// expect makes a worker known to the control socket before it exists, or before
// it comes back: then nobody but itself knows its secret.
func (m *Master) expect(w *worker, secret string) {
	welcome := ipc.Welcome{Service: m.cfg.Service, Label: w.generation.version.Label, BeatMS: int(beatInterval / time.Millisecond), Keeps: true}
	for _, l := range w.generation.cfg.Listeners {
		welcome.Listeners = append(welcome.Listeners, ipc.Listener{Name: l.Name, Address: l.Address})
	}
	w.session = m.sessions.Expect(session.Expect{
		Worker: uint64(w.id), Generation: uint64(w.generation.id), Secret: secret, SecretHash: w.secret.hash, NextHash: w.secret.next, UID: uint32(w.uid), Welcome: welcome,
		Fact: func(f session.Fact) { m.hear(w, f) },
	})
}
