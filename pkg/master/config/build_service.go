package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MaxRuntimeDir bounds the path of the runtime directory, in bytes: sockets
// with names of up to 19 bytes are made in it, and the kernel takes 107 in all.
const MaxRuntimeDir = 107 - 1 - 19

// maxService is the longest name of a service, in bytes.
const maxService = 32

// service checks the name and finds the directories.
func (b *builder) service(c *Config) {
	switch {
	case c.Service == "":
		if !slices.ContainsFunc(b.doc.list, func(p Problem) bool { return p.Key == "" || p.Key == "service" }) {
			b.add("service", "must be given: the service's name")
		}
	case !matches("a-z0-9-", c.Service):
		b.add("service", fmt.Sprintf(`%s is not 1 to 32 of a-z, 0-9 and "-"`, short(c.Service)))
	}
	if c.Environment != "" && !matches("a-z0-9-", c.Environment) {
		b.add("environment", fmt.Sprintf(`%s is not 1 to 32 of a-z, 0-9 and "-"`, short(c.Environment)))
	}

	c.RuntimeDir, c.StateDir = b.absolute(c.RuntimeDir), b.absolute(c.StateDir)
	if c.RuntimeDir == "" {
		c.RuntimeDir = b.host.runtimeDir(c.Service)
	}
	if c.StateDir == "" {
		base := b.host.StateBase()
		if base == "" {
			b.add("state_dir", "there is no home directory to put it in (HOME is not set); set state_dir or $XDG_STATE_HOME")
		}
		c.StateDir = filepath.Join(base, c.Service)
	}
	if len(c.RuntimeDir) > MaxRuntimeDir {
		b.add("runtime_dir", fmt.Sprintf("%s has %d bytes; at most %d are allowed, as paths of sockets are short", c.RuntimeDir, len(c.RuntimeDir), MaxRuntimeDir))
	}
	if c.RuntimeDir == c.StateDir {
		b.add("state_dir", "is the same as runtime_dir, which does not outlive a reboot")
	}
}

// worker checks what is run and as whom.
func (b *builder) worker(c *Config) {
	w := &c.Worker
	switch {
	case len(w.Command) > 0:
		w.Command[0] = b.program("worker.command", w.Command[0])
	case b.doc.at["worker.command"] > 0:
		if !slices.ContainsFunc(b.problems().List, func(p Problem) bool { return strings.HasPrefix(p.Key, "worker.command") }) {
			b.add("worker.command", "is empty; it needs at least the program")
		}
	case b.doc.nodes["worker"] != nil || !slices.ContainsFunc(b.doc.list, func(p Problem) bool { return p.Key == "" || p.Key == "worker" }):
		b.add("worker.command", "must be given: the program and its arguments")
	}
	w.Directory = b.absolute(w.Directory)
	if w.Directory == "" {
		w.Directory = b.dir
	}
	for i, f := range w.EnvFiles {
		if f == "" {
			b.add("worker.env_files", "has an empty path")
		}
		w.EnvFiles[i] = b.absolute(f)
	}
	if w.NoFile > 0 && w.NoFile < minNoFile {
		b.add("worker.limits.nofile", fmt.Sprintf("%d is too few to run anything; write 0 or at least %d", w.NoFile, minNoFile))
	}
	if w.NProc > 0 && w.NProc < minNProc {
		b.add("worker.limits.processes", fmt.Sprintf("%d is too few to run anything: threads count, too; write 0 or at least %d", w.NProc, minNProc))
	}
	if w.Tasks > 0 && w.Tasks < minNProc {
		b.add("worker.limits.tasks", fmt.Sprintf("%d is too few to run anything: threads count, too; write 0 or at least %d", w.Tasks, minNProc))
	}
	for path, n := range map[string]uint64{"worker.limits.memory": w.Memory, "worker.limits.memory_high": w.MemoryHigh} {
		if n > 0 && n < minMemory {
			b.add(path, fmt.Sprintf("%d bytes are too few to run anything; write 0 or at least %dMiB", n, minMemory>>20))
		}
	}
	if w.Memory > 0 && w.MemoryHigh >= w.Memory {
		b.add("worker.limits.memory_high", "must be less than worker.limits.memory: it slows a worker down before that ends it")
	}
	if _, err := capabilitiesOf(w.Capabilities...); err != nil {
		b.add("worker.capabilities", err.Error())
	}
	b.workerEnv(w)
	// Numbers need no entry in the user database, as in containers; a user
	// without one has no primary group, so one must be given.
	if !isID(w.User) || w.Group == "" {
		b.account("worker.user", w.User, b.host.user)
	}
	if !isID(w.Group) {
		b.account("worker.group", w.Group, b.host.group)
	}
	if !b.host.Root {
		for _, path := range []string{"worker.user", "worker.group"} {
			if b.given(path) && b.values.GetString(path) != "" {
				b.add(path, fmt.Sprintf("needs a master that runs as root; this one has uid %d", b.host.UID))
			}
		}
	}
}

// minNoFile is the least limit of descriptors that a worker can live with.
const minNoFile = 64

// minNProc is the least limit of processes and threads that a worker can live with.
const minNProc = 16

// minMemory is the least limit of memory that a worker can live with.
const minMemory = 4 << 20

// workerEnv refuses names that cannot be, and those that masterd sets.
func (b *builder) workerEnv(w *Worker) {
	for _, name := range slices.Sorted(maps.Keys(w.Env)) {
		at := joinPath("worker.env", name)
		if err := checkVariable(name, w.Env[name]); err != nil {
			b.add(at, err.Error())
		}
	}
}

// isID tells whether an account is given by its number.
func isID(name string) bool {
	_, err := strconv.ParseUint(name, 10, 31)
	return err == nil && name != "0"
}

// account checks that a user or group exists; empty is none.
func (b *builder) account(path, name string, lookup func(string) error) {
	if name == "" {
		return
	}
	if err := lookup(name); err != nil {
		b.add(path, err.Error())
	}
}

// rest checks what remains: keys that go together across sections.
func (b *builder) rest(c *Config) {
	if c.Restart.Max < c.Restart.Initial {
		b.add("restart.max", fmt.Sprintf("%s is less than restart.initial, %s", showDuration(c.Restart.Max), showDuration(c.Restart.Initial)))
	}
	for i, dir := range c.Versions.Allow {
		if dir == "" {
			b.add("versions.allow", "has an empty path")
		}
		c.Versions.Allow[i] = b.absolute(dir)
	}
	b.account("admin.readers_group", c.Admin.ReadersGroup, b.host.group)
	b.account("admin.operators_group", c.Admin.OperatorsGroup, b.host.group)
	b.metrics(c)
	if strings.HasSuffix(c.Log.File, "/") {
		b.add("log.file", "is a directory, not a file")
	}
	c.Log.File = b.absolute(c.Log.File)
}

// metrics checks the address that is scraped, and writes it in full.
func (b *builder) metrics(c *Config) {
	if c.Admin.Metrics == "" {
		return
	}
	host, portText, err := net.SplitHostPort(c.Admin.Metrics)
	port, badPort := strconv.ParseUint(portText, 10, 16)
	switch {
	case err != nil:
		err = fmt.Errorf("%s is not HOST:PORT, such as 127.0.0.1:9464", short(c.Admin.Metrics))
	case badPort != nil || port == 0:
		err = fmt.Errorf("%s is not a port; ports are 1 to 65535", short(portText))
	case host == "", host == "localhost":
		host = "127.0.0.1" // all addresses of the machine have to be written out
	default:
		host, err = checkHost("tcp", host)
	}
	if err != nil {
		b.add("admin.metrics", err.Error())
		return
	}
	c.Admin.Metrics = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	all := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	for i, x := range c.Listeners {
		if x.Port == int(port) && x.Network != "unix" && (x.Host == host || all(x.Host) || all(host)) {
			b.add("admin.metrics", fmt.Sprintf("%s is listeners[%d]; take another port", c.Admin.Metrics, i))
		}
	}
}
