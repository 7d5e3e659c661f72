package workers

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/version"
)

// spawn starts the process. It runs beside the loop: the program's digest is
// computed on the way.
func (set *Set) spawn(w *Worker, as *version.User) (Process, error) {
	g := w.Generation
	program, err := set.Versions.ExecutableBy(set.Loop.Life(), g.Version.ID, as)
	if err != nil {
		return nil, err
	}
	var fromFiles []string
	for _, f := range g.Version.EnvFiles {
		vars, err := g.variables(f)
		if err != nil {
			return nil, err
		}
		fromFiles = append(fromFiles, vars...)
	}
	extra := proc.LoginEnv(g.Config.Worker.User)
	maps.Copy(extra, set.Env)
	args := slices.Clone(g.Version.Args)
	for i := 1; i < len(args); i++ { // the program is where it is
		args[i] = config.ExpandWorker(args[i], uint64(w.ID), uint64(g.ID))
	}
	for name, value := range g.Version.Env {
		extra[name] = config.ExpandWorker(value, uint64(w.ID), uint64(g.ID))
	}
	stdout, stderr := w.output.FDs()
	spec := proc.Spec{
		Shim: set.Shim, Program: program, Args: args, Dir: g.Version.Dir,
		User: g.Config.Worker.User, Group: g.Config.Worker.Group, Limits: proc.Limits{NoFile: g.Config.Worker.NoFile},
		OOMScoreAdj: candidateScore, Stdout: stdout, Stderr: stderr,
	}
	set.bind(&spec, &g.Config.Worker, Limits(g.Config), as.UID)
	extra[ipc.EnvRuntimeDir] = set.RuntimeDir
	extra[ipc.EnvWorker] = strconv.FormatUint(uint64(w.ID), 10)
	files, err := w.kind.equip(&spec, extra)
	defer fdpass.CloseCopies(files...)
	if err != nil {
		return nil, err
	}
	spec.Env = proc.CleanEnv(extra, fromFiles)
	group := set.place(w, &spec)
	p, err := set.System.Spawn(spec)
	if group >= 0 {
		fdpass.CloseCopies(group)
	}
	return p, err
}

// bind takes from a worker what it is not to have of the master's.
func (set *Set) bind(spec *proc.Spec, c *config.Worker, limits contain.Limits, uid int) {
	spec.NoNewPrivileges = c.NoNewPrivs == "yes" || c.NoNewPrivs == "auto" && uid != os.Geteuid()
	if uid == 0 || !spec.NoNewPrivileges {
		spec.Bounding = c.Bounding()
		if names := c.Beyond(set.System.Bounding()); len(names) > 0 {
			set.Log.Warn("worker.capabilities asks for what the master has not got itself, so workers are started without; "+
				"if a unit started it, type: systemctl edit UNIT, and add CapabilityBoundingSet="+strings.Join(names, " ")+
				" below [Service]", zap.Strings("capabilities", names))
		}
	}
	spec.Processes = c.NProc
	if spec.Processes == 0 && !limits.Any() { // in a scope it takes nothing from what bounds the master
		spec.Processes = set.System.Processes(uid)
	}
	if size, ok := map[string]int64{"none": 0, "unlimited": -1}[c.Core]; ok {
		spec.Core = &size
	}
}
