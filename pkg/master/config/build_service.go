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
	b.ownAddresses(c)
	if strings.HasSuffix(c.Log.File, "/") {
		b.add("log.file", "is a directory, not a file")
	}
	c.Log.File = b.absolute(c.Log.File)
}

// ownAddress checks an address of the master's own, and writes it in full.
func (b *builder) ownAddress(c *Config, key, example string, value *string, loopback bool) {
	if *value == "" {
		return
	}
	host, portText, err := net.SplitHostPort(*value)
	port, badPort := strconv.ParseUint(portText, 10, 16)
	switch {
	case err != nil:
		err = fmt.Errorf("%s is not HOST:PORT, such as %s", short(*value), example)
	case badPort != nil || port == 0:
		err = fmt.Errorf("%s is not a port; ports are 1 to 65535", short(portText))
	case host == "", host == "localhost":
		host = "127.0.0.1" // all addresses of the machine have to be written out
	default:
		host, err = checkHost("tcp", host)
	}
	if err == nil && loopback && !net.ParseIP(host).IsLoopback() {
		err = fmt.Errorf("%s is not a loopback address: what is served there is not encrypted; use %s, which others reach by ssh -L",
			host, example)
	}
	if err != nil {
		b.add(key, err.Error())
		return
	}
	*value = net.JoinHostPort(host, strconv.FormatUint(port, 10))
	for i, x := range c.Listeners {
		if x.Port == int(port) && x.Network != "unix" && sharesHost(x.Host, host) {
			b.add(key, fmt.Sprintf("%s is listeners[%d]; take another port", *value, i))
		}
	}
}

// sharesHost reports whether a port of two hosts can be one socket's only.
func sharesHost(x, y string) bool {
	all := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return x == y || all(x) || all(y)
}

// ownAddresses checks those of /metrics and the live page.
func (b *builder) ownAddresses(c *Config) {
	b.ownAddress(c, "admin.metrics", "127.0.0.1:9464", &c.Admin.Metrics, false)
	b.ownAddress(c, "admin.page", "127.0.0.1:9470", &c.Admin.Page, true)
	host, port, err := net.SplitHostPort(c.Admin.Page)
	other, otherPort, err2 := net.SplitHostPort(c.Admin.Metrics)
	if err == nil && err2 == nil && port == otherPort && sharesHost(host, other) {
		b.add("admin.page", fmt.Sprintf("%s is admin.metrics; take another port", c.Admin.Page))
	}
}
