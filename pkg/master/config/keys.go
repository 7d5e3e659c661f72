package config

import (
	"strings"
)

// since is the version of masterd in which the first keys appeared.
const since = "0.1"

// Keys returns every key of the configuration file, sections before what is in
// them, in the order in which they are explained.
func Keys() []Key {
	var all []Key
	for _, part := range [][]Key{serviceKeys(), workerKeys(), healthKeys(), rolloutKeys(), canaryKeys(), analysisKeys(), endKeys(), masterKeys()} {
		all = append(all, part...)
	}
	for i := range all {
		k := &all[i]
		if k.Since == "" {
			k.Since = since
		}
		if k.merged() {
			k.Env = envName(k.Path)
		}
		k.Meaning = strings.Join(strings.Fields(k.Meaning), " ")
	}
	return all
}

func serviceKeys() []Key {
	return []Key{
		{Path: "service", Type: Text, Restart: true, Example: "shop",
			Meaning: `The service's name: 1 to 32 of a-z, 0-9 and "-". It names the runtime and state directories and
				appears in every line of the log. There is one master per service. It must be given.`},
		{Path: "environment", Type: Text, Example: "production",
			Meaning: `What this installation is, for people: at most 32 of a-z, 0-9 and "-". "production" makes stop ask for
				the service's name.`},
		{Path: "runtime_dir", Type: Path, Restart: true, Example: "/run/masterd/shop",
			Meaning: `Where sockets and locks are kept while the master runs. When empty it is /run/masterd/NAME for root;
				for others masterd-UID/NAME in $XDG_RUNTIME_DIR or, without that, .run/NAME beside the state directories,
				where nobody tidies up (masterd-UID/NAME in the temporary directory only if there is no home directory that
				can be written to). A service that runs in another of these places stays there.`},
		{Path: "state_dir", Type: Path, Restart: true, Example: "/var/lib/masterd/shop",
			Meaning: `Where pinned versions, the history and what is known of the last good version are kept across reboots.
				When empty it is /var/lib/masterd/NAME for root; for others masterd/NAME in $XDG_STATE_HOME or, without
				that, in ~/.local/state. Pinned programs are run from here: the file system must not be mounted noexec,
				and the worker's user must be able to enter the directories above it.`},
		{Path: "listeners", Type: List,
			Meaning: `The addresses on which the service is reached, at most 64. None is fine for consumers and jobs. Side
				ports (metrics, debugging) belong here too: two versions run at once and would collide on them. A
				reload opens added listeners first; removed ones leave after the drain.`},
		{Path: "listeners[].name", Type: Text, Example: "http",
			Meaning: `Names the listener to the worker, to checks and to people: 1 to 32 of a-z, 0-9, "_" and "-", each name
				once. It must be given.`},
		{Path: "listeners[].address", Type: Text, Example: "tcp://127.0.0.1:8080",
			Meaning: `tcp://HOST:PORT, tcp4://HOST:PORT, tcp6://HOST:PORT or unix:///PATH. HOST is an IP address, IPv6 in
				brackets, "localhost", or empty for all addresses of the machine (with tcp:// IPv4 and IPv6 at once).
				A Unix socket takes its permissions from unix:///PATH?mode=0660&group=www; without mode it is 0666, so
				that any local user connects, as with a TCP port. Nobody but root and the master's user may be able to
				write to the socket's directory, or to one above it, unless it has the sticky bit, as /tmp has: with
				root's master a directory of the worker's user is refused. It must be given, each address once.`},
		{Path: "listeners[].backlog", Type: Integer, Default: "4096", Unit: "connections", Min: "1", Max: "65535",
			Meaning: `How many connections may wait to be accepted, on each kernel socket of the listener. The kernel cuts it to
				net.core.somaxconn.`},
		{Path: "listeners[].steering", Type: Text, Default: "auto", Allowed: []string{"auto", "kernel", "shared"},
			Meaning: `How new connections are led to one version. "kernel" gives each version sockets of its own and lets the
				kernel choose; "shared" is one socket that is handed from version to version, for systems where the first
				is not possible. "auto" takes the best that works; status says which and why. Unix sockets take "auto" or
				"shared".`},
	}
}

func workerKeys() []Key {
	return []Key{
		{Path: "worker", Type: Section, Meaning: `What is run, and as whom.`},
		{Path: "worker.kind", Versioned: true, Type: Text, Default: KindSDK, Allowed: []string{KindSDK, KindSocketActivation, KindUnmodified},
			Meaning: `"sdk" is a program built on masterd's worker package: everything works. "socket-activation" is any
				program that takes its sockets by LISTEN_FDS, as under systemd, or is told the number of a descriptor.
				"unmodified" is any program that binds the listeners' addresses itself: its calls of bind and listen are
				answered with its own sockets there (seccomp user notification; Linux 5.14, TCP only). What it binds
				must be what is configured, or all addresses where less is configured.`},
		{Path: "worker.preset", Versioned: true, Type: Text, Default: presetNone, Allowed: presetNames(),
			Meaning: `What is known of a widely used server: its kind, how it leaves, how it is told of its sockets. Each
				key that is given itself wins. configs/examples has one configuration for each.`},
		{Path: "worker.command", Versioned: true, Type: Arguments, Example: `["/srv/shop/bin/shop", "--mode=prod"]`,
			Meaning: `The program and its arguments, without a shell. A program with a slash is a path, relative to the
				configuration file; a bare name is looked up in the master's PATH. Arguments are passed as written. In a
				socket-activation worker {fd:NAME} stands for the number of the descriptor of that listener; in each
				argument after the program {worker} stands for the number of the worker, which no other one has, and
				{generation} for that of its generation (pid files, sockets). The same holds in worker.env. Twice in
				braces they stand for themselves: {{worker}} is {worker}. Other braces stay as they are. It must be given.`},
		{Path: "worker.directory", Versioned: true, Type: Path,
			Meaning: `The worker's working directory; when empty, that of the configuration file.`},
		{Path: "worker.processes", Type: Integer, Default: "1", Unit: "processes", Min: "1", Max: "64",
			Meaning: `How many workers each generation has.`},
		{Path: "worker.pin", Type: Text, Default: "auto", Allowed: []string{"auto", "copy", "path"},
			Meaning: `How the program is kept, so that a crash or a rollback brings back the same one even when its file has
				been overwritten. "copy" keeps a copy in state_dir; "path" only watches that the file is the same, for
				programs that need the files beside them (interpreters, virtual environments). "auto" copies what is
				self-contained and says which it took and why. The original is what runs while it is the same, and only
				root and the master's user can exchange it; else the copy runs, which is no easier to read than the
				original was. Files beside the program are not kept.`},
		{Path: "worker.env", Versioned: true, Type: Variables, Example: `{GIN_MODE: release}`,
			Meaning: `Environment variables of the worker, added to its clean environment and kept with the version. Values are
				taken as written, but for {worker}, {generation} and {fd:NAME} (see worker.command), and never shown. Names that masterd or the service manager set (MASTERD_*, LISTEN_*,
				NOTIFY_SOCKET and their kin) are refused.`},
		{Path: "worker.env_files", Versioned: true, Type: Paths, Example: `["/etc/shop/secrets.env"]`,
			Meaning: `Files of KEY=VALUE lines, read at each start of a worker and never stored: the place for secrets. A line
				may begin with "export"; # begins a comment line; values may be in single quotes (as they are) or double
				quotes (\n, \t, \", \\, \$). Nothing is expanded. Later files win over earlier ones, and worker.env wins
				over all of them. One that others than root and the master's user could have put there, themselves or by
				a symbolic link, is not read.`},
		{Path: "worker.user", Type: Text, Example: "www-data",
			Meaning: `The user that workers run as, by name or number. It needs a master that runs as root. When empty, the
				master's own.`},
		{Path: "worker.group", Type: Text, Example: "www-data",
			Meaning: `The group that workers run as. It needs a master that runs as root. When empty, the primary group of
				worker.user.`},
		{Path: "worker.limits", Type: Section, Meaning: `Limits of each worker.`},
		{Path: "worker.limits.nofile", Type: Integer, Default: "0", Unit: "descriptors", Min: "0", Max: "1073741816",
			Meaning: `How many descriptors a worker may have open (RLIMIT_NOFILE), from 64. 0: as many as the master.`},
		{Path: "worker.limits.processes", Type: Integer, Default: "0", Unit: "processes", Min: "0", Max: "4194304",
			Meaning: `How many processes and threads the user of a worker may have when the worker starts one more
				(RLIMIT_NPROC); all that the user runs on the host count. 0: seven eighths of the least that bounds the
				master itself (pids.max of its cgroups, which is TasksMax= of its unit, kernel.threads-max and
				kernel.pid_max), so that a worker that forks without end leaves the master its threads; as many as the master in a
				container, and for a user who has processes outside of the master's cgroup, as another instance of it: the
				kernel counts those, too. The same holds for workers with limits of tasks or memory. It does not bind the host's root: a worker without worker.user
				is bound only by TasksMax=, together with the master, or by worker.limits.tasks.`},
		{Path: "worker.limits.tasks", Type: Integer, Default: "0", Unit: "tasks", Min: "0", Max: "4194304",
			Meaning: `How many processes and threads a worker may have, with all that it starts (systemd's TasksMax=), whoever its
				user is. 0: no such limit. With this, worker.limits.memory or worker.limits.memory_high each worker is in a scope of
				systemd's, beside masterd's unit, which outlives the master: UNIT-worker-N.scope. It needs cgroups of version 2 with the kernel's controller, and
				a systemd that masterd may ask: the system's for root, else that of its user, if that has started it.
				Without, check and reload refuse.`},
		{Path: "worker.limits.memory", Type: Size, Default: "0", Min: "0", Max: "1024TiB",
			Meaning: `How much memory a worker may have, with all that it starts (systemd's MemoryMax=). Beyond, the kernel ends one
				of its processes. 0: no such limit.`},
		{Path: "worker.limits.memory_high", Type: Size, Default: "0", Min: "0", Max: "1024TiB",
			Meaning: `Above it the kernel slows a worker down and takes memory back from it (systemd's MemoryHigh=). Less than
				worker.limits.memory. 0: no such limit.`},
		{Path: "worker.limits.core", Type: Text, Default: "inherit", Allowed: []string{"inherit", "none", "unlimited"},
			Meaning: `Core files of workers that crash (RLIMIT_CORE): as large as the master's limit allows (LimitCORE= of its
				unit), none, or of any size. They hold all that the worker had in memory.`},
		{Path: "worker.no_new_privileges", Type: Text, Default: "auto", Allowed: []string{"auto", "yes", "no"},
			Meaning: `Whether a worker, and all that it starts, can get no privilege that it has not got: neither by a setuid
				program (sudo, su, sendmail of some mail servers) nor by file capabilities (ping, a program that setcap has
				given a low port). Then the capabilities that it can ever have are none, too, and a program with file
				capabilities that it cannot do without is refused by the kernel. "auto" is "yes" where worker.user is another
				than the master's. Say "no" for workers that need such programs.`},
		{Path: "worker.capabilities", Type: Words, Example: `["CAP_NET_ADMIN"]`,
			Meaning: `Capabilities that workers which run as root, or become root by a setuid program, can have beside those
				that are left to them: ` + commonCapabilities + `; with the presets nginx, haproxy, php-fpm, apache and lighttpd ` + serverCapabilities + `, with caddy
				DAC_OVERRIDE and NET_BIND_SERVICE. Such a worker cannot read the master's memory nor take its descriptors. ALL
				leaves it all that the master has. Workers with worker.user have none, unless worker.no_new_privileges is "no";
				ambient and inheritable ones no worker has. A master without CAP_SETPCAP leaves the bounding set as it is.`},
		{Path: "worker.stop_signal", Versioned: true, Type: Text, Default: "TERM", Allowed: signalNames(),
			Meaning: `The signal that asks a worker to stop: for programs that are not built on the worker package, and for
				those that do not follow the control protocol any more. "SIGTERM" is read as "TERM".`},
		{Path: "worker.ready", Versioned: true, Type: Text, Default: "auto", Allowed: []string{"auto", "notify", "probe"},
			Meaning: `When a worker that is not built on the worker package counts as ready, so that its checks begin: "probe", at
				once, the first check that passes is the proof; "notify", when it has said READY=1 by sd_notify. One that
				is unmodified must have come to listen on all listeners besides. "auto" is "probe".`},
		{Path: "worker.notify_access", Versioned: true, Type: Text, Default: "main", Allowed: []string{"main", "group"},
			Meaning: `Who may speak for a worker by sd_notify: its first process (or the one that it named with MAINPID), or any
				process of its group. A worker may take less by NOTIFYACCESS=, and never gets more.`},
		{Path: "worker.watchdog", Versioned: true, Type: Duration, Default: "0", Min: "0", Max: "24h",
			Meaning: `A worker that is not built on the worker package and has not said WATCHDOG=1 for so long is sent ABRT, and
				killed and replaced if it is still there a second later. It is told by WATCHDOG_USEC. At least 100ms; 0: it
				has none. WATCHDOG=trigger does the same at once, whether it has one or not.`},
		{Path: "worker.non_blocking", Versioned: true, Type: Boolean, Default: "false",
			Meaning: `Gives a socket-activation worker its listeners' sockets with O_NONBLOCK set, as NonBlocking= of systemd does.
				By default an accept on them waits, as under systemd. The preset for nginx sets it: nginx expects sockets
				of its own kind.`},
		{Path: "worker.fd_store", Type: Integer, Default: "0", Unit: "descriptors", Min: "0", Max: "512",
			Meaning: `How many descriptors workers may have masterd keep by FDSTORE=1 of sd_notify, for all workers that are
				started later, of any version; they come after the listeners in LISTEN_FDS. They are let go when the
				service stops.`},
	}
}

func healthKeys() []Key {
	return []Key{
		{Path: "health", Type: Section, Allowed: []string{"none"},
			Meaning: `How a worker is checked, each by itself, before it gets traffic and while it has it. At most one of http,
				tcp and command; with none of them, a service with listeners is asked for /healthz over http on its
				first one, and a service without is believed when it says that it is ready. "health: none" is short for
				"health: {http: none}".`},
		{Path: "health.http", Type: Section, Allowed: []string{"none"},
			Meaning: `Checks by an HTTP request, on a connection of its own, without following redirects. "http: none" turns
				off the check that a service with listeners has by default; the other keys of health stay in force.`},
		{Path: "health.http.listener", Versioned: true, Type: Text, Example: "http",
			Meaning: `Name of the listener whose connections are used; when empty, the first.`},
		{Path: "health.http.scheme", Versioned: true, Type: Text, Default: "http", Allowed: []string{"http", "https", "h2c"},
			Meaning: `"https" speaks TLS and does not verify the certificate (it is the own worker's); "h2c" speaks HTTP/2
				without TLS.`},
		{Path: "health.http.method", Versioned: true, Type: Text, Default: "GET", Meaning: `The request's method.`},
		{Path: "health.http.path", Versioned: true, Type: Text, Default: "/healthz", Meaning: `The request's path, with its query if it has one.`},
		{Path: "health.http.host", Versioned: true, Type: Text, Example: "shop.example",
			Meaning: `The request's Host, and the server name with https; when empty, "localhost".`},
		{Path: "health.http.headers", Versioned: true, Type: Variables, Example: `{X-Check: masterd}`,
			Meaning: `More headers of the request. Values are never shown.`},
		{Path: "health.http.status", Versioned: true, Type: Statuses, Default: "200",
			Meaning: `The answers that pass: a code, a range in quotes ("200-299"), or a list of these.`},
		{Path: "health.tcp", Type: Section, Off: true,
			Meaning: `Checks that the worker accepts a connection and does not close it at once; for services that do not speak
				HTTP. The check ends its own side, as a client that has nothing to ask, and passes when the worker says
				something or closes its side, too. Where workers of other kinds than sdk share one socket (steering: shared),
				whichever of them accepts has passed: use worker.ready: notify there.`},
		{Path: "health.tcp.listener", Versioned: true, Type: Text, Example: "http", Off: true,
			Meaning: `Name of the listener whose connections are used; when empty, the first.`},
		{Path: "health.command", Versioned: true, Type: Arguments, Off: true, Example: `["/usr/local/bin/check-shop"]`,
			Meaning: `Checks by a program, as the master's user; exit status 0 passes. MASTERD_WORKER_ID, MASTERD_WORKER_PID,
				MASTERD_WORKER_GENERATION and MASTERD_WORKER_VERSION say which worker is meant. It is killed with all that
				it started when its time is over. That a listener's address can be connected to says nothing: masterd itself
				listens there.`},
		{Path: "health.start", Type: Section, Meaning: `Checks of a worker that has not yet had traffic.`},
		{Path: "health.start.interval", Versioned: true, Type: Duration, Default: "50ms", Min: "10ms", Max: "1m", Meaning: `Time between two checks.`},
		{Path: "health.start.successes", Versioned: true, Type: Integer, Default: "2", Unit: "checks", Min: "1", Max: "100",
			Meaning: `How many checks in a row must pass.`},
		{Path: "health.start.timeout", Versioned: true, Type: Duration, Default: "60s", Min: "100ms", Max: "1h",
			Meaning: `Time from the start of the process until all checks have passed; then the new version has failed.`},
		{Path: "health.start.give_up", Versioned: true, Type: Duration, Default: "5s", Min: "0", Max: "1h",
			Meaning: `A new version that shows that it will never pass has failed once it has shown that for so long, before the
				timeout. It does so when it has kind "sdk", has not said a word to masterd, listens elsewhere, and is a Go
				program that cannot speak the control protocol; and when it has said that it is ready and refuses every
				check in the same way: by a redirect, or with a status of 400 to 499 (but 408, 425 and 429), as 404 of a
				path that it does not know. A worker that asks for more time (EXTEND_TIMEOUT_USEC) gets it. 0: it has until
				the timeout.`},
		{Path: "health.active", Type: Section,
			Meaning: `Checks of a worker that has traffic, or is kept warm for a rollback. During the bake of a new version
				failing ones roll it back; later they are shown, never a reason to kill.`},
		{Path: "health.active.interval", Versioned: true, Type: Duration, Default: "2s", Min: "100ms", Max: "10m", Meaning: `Time between two checks.`},
		{Path: "health.active.timeout", Versioned: true, Type: Duration, Default: "1s", Min: "10ms", Max: "1m", Meaning: `Time for each check.`},
		{Path: "health.active.failures", Versioned: true, Type: Integer, Default: "3", Unit: "checks", Min: "1", Max: "100",
			Meaning: `How many failed checks in a row make a worker unhealthy.`},
		{Path: "health.warmup", Type: Section, Meaning: `Requests made to a checked worker before it gets traffic, to fill its caches.`},
		{Path: "health.warmup.path", Versioned: true, Type: Text, Example: "/",
			Meaning: `What is requested, by GET on the listener of health.http and with its scheme and host.`},
		{Path: "health.warmup.requests", Versioned: true, Type: Integer, Default: "0", Unit: "requests", Min: "0", Max: "100000",
			Meaning: `How many requests are made; 0 makes none.`},
		{Path: "health.warmup.concurrency", Versioned: true, Type: Integer, Default: "4", Unit: "requests", Min: "1", Max: "256",
			Meaning: `How many of them at a time.`},
	}
}

func rolloutKeys() []Key {
	return []Key{
		{Path: "rollout", Type: Section, Meaning: `How one version follows the other.`},
		{Path: "rollout.bake", Type: Duration, Default: "5m", Min: "0", Max: "168h",
			Meaning: `How long a new version must have the traffic without a fault until it is trusted. So long the one before
				it is kept warm, and a fault goes back to it at once. Where it is not given, and the service has no
				listeners and is not built on the worker package, it is 0, and rollout.surge is "one": two consumers at
				one time are not wanted unless asked for.`},
		{Path: "rollout.surge", Type: Text, Default: "all", Allowed: []string{"all", "one", "replace"},
			Meaning: `"all" starts all new workers beside all old ones; "one" replaces one at a time, which needs less memory
				and leaves nothing warm to roll back to. "replace" is for programs of which two cannot live at one time, because
				they lock what they have: once the new version has been checked as far as it can be without a start, the old
				one drains and ends, and clients wait in the listening queue until the new one serves, for unavailable.after
				at most before they are answered by masterd. A new version that does not come up is ended, and the old one is
				started again, as it is when a worker dies during the bake. How long clients have waited is in the answer, in
				status and in history. The old one has drain.timeout to end, and clients wait for that too: set it short.
				Programs of kind socket-activation and unmodified get those who wait as soon as they accept, before their
				checks have passed.`},
		{Path: "rollout.min_ready", Type: Duration, Default: "5s", Min: "0", Max: "1h",
			Meaning: `When workers are replaced one at a time: how long a new one must serve without a fault before an old one
				leaves for it and the next is started. At its end every new worker has to pass a check, so it need not
				be longer than health.active.interval times health.active.failures. If a new worker dies or fails its
				checks, the rollout ends and what was replaced comes back. The default is long enough for most faults
				that show with the first requests, and costs 64 workers less than six minutes; 0 does not wait.`},
		{Path: "rollout.watch", Type: Boolean, Default: "false",
			Meaning: `Reload by itself when the configuration file or the program has changed and come to rest.`},
		{Path: "rollout.cooldown", Type: Duration, Default: "10s", Min: "0", Max: "24h",
			Meaning: `Least time between two automatic reloads. People never wait.`},
		{Path: "rollout.max_per_minute", Type: Integer, Default: "6", Unit: "rollouts", Min: "1", Max: "600",
			Meaning: `Most automatic reloads in a minute.`},
		{Path: "rollout.keep_versions", Type: Integer, Default: "5", Unit: "versions", Min: "1", Max: "100",
			Meaning: `How many pinned versions are kept to roll back to. Those in use, the last good one and those pinned by
				hand stay besides.`},
		{Path: "rollout.memory", Type: Section, Meaning: `What is done when two versions do not fit in memory at once.`},
		{Path: "rollout.memory.reserve", Type: Size, Default: "128MiB", Min: "0", Max: "1024TiB",
			Meaning: `What must stay available beside the new version.`},
		{Path: "rollout.memory.when_short", Type: Text, Default: "refuse", Allowed: []string{"refuse", "one"},
			Meaning: `"refuse" refuses the rollout and gives the figures; "one" goes one worker at a time.`},
		{Path: "rollout.require", Type: Section,
			Meaning: `What must be well before a new version is started: a database that answers, a queue that is short. All is
				tried, once a second, until it is, or until the timeout refuses the rollout.`},
		{Path: "rollout.require.commands", Type: Hooked, Example: `[["/usr/local/bin/queue-is-short", "--below", "100"]]`,
			Meaning: `Programs that must exit with status 0, as the master's user and without a shell.`},
		{Path: "rollout.require.tcp", Type: Words, Example: `["127.0.0.1:5432"]`,
			Meaning: `Addresses HOST:PORT, or paths of Unix sockets, that must take a connection.`},
		{Path: "rollout.require.http", Type: Words, Example: `["http://127.0.0.1:9200/_cluster/health"]`,
			Meaning: `Addresses http:// or https:// that must answer GET with a status of 200 to 299; redirects are not followed.`},
		{Path: "rollout.require.timeout", Type: Duration, Default: "10s", Min: "100ms", Max: "4m",
			Meaning: `How long all of it may take to become well.`},
		{Path: "rollout.hooks", Type: Section,
			Meaning: `Programs that run at points of a rollout, as the master's user and without a shell. Each key takes a list
				of argument lists, which run in order; one plain list of text is one hook.`},
		{Path: "rollout.hooks.before", Type: Hooked, Example: `[["/usr/local/bin/migrate", "--check"]]`,
			Meaning: `Before anything is started; one that fails refuses the rollout.`},
		{Path: "rollout.hooks.after", Type: Hooked, Meaning: `After a rollout that went well.`},
		{Path: "rollout.hooks.failed", Type: Hooked, Meaning: `After one that did not.`},
	}
}

func endKeys() []Key {
	return []Key{
		{Path: "drain", Type: Section, Meaning: `What an old version may take to leave.`},
		{Path: "drain.timeout", Type: Duration, Default: "5m", Min: "0", Max: "168h",
			Meaning: `Time for its open requests and connections; what is open then is cut and counted. 0: as long as it takes.`},
		{Path: "drain.max_generations", Type: Integer, Default: "4", Unit: "generations", Min: "1", Max: "8",
			Meaning: `How many may be draining at one time; with one more the oldest is cut, so that a new version never waits.`},
		{Path: "drain.kill_after", Type: Duration, Default: "5s", Min: "100ms", Max: "10m",
			Meaning: `Time from the stop signal that a worker gets when its time is up until it is killed. What it cuts then is in
				the log, in status and in history; a worker that is given less than a second may not get to say it.`},
		{Path: "drain.signal", Versioned: true, Type: Text, Default: signalNone, Allowed: append([]string{signalNone}, signalNames()...),
			Meaning: `The signal that has a worker of a kind other than sdk finish what it has and end, for programs that know how
				to. With "none" masterd closes the worker's connections one at a time, each between two requests, and sends
				worker.stop_signal when there are none. When drain.timeout is over worker.stop_signal is sent in any case.`},
		{Path: "drain.command", Versioned: true, Type: Arguments, Example: `["/usr/sbin/haproxy-drain"]`,
			Meaning: `A program that has such a worker finish, in the place of a signal, as the master's user.
				MASTERD_WORKER_ID, MASTERD_WORKER_PID, MASTERD_WORKER_GENERATION and MASTERD_WORKER_VERSION say which. If
				it fails, worker.stop_signal is sent.`},
		{Path: "drain.handover", Type: Boolean, Default: "true",
			Meaning: `Move idle kept HTTP/1.1 connections to the version that has the traffic. Those of clients that speak TLS to
				the worker, or HTTP/2, cannot move: they are asked to leave with their next answer, as all are when this is false.`},
		{Path: "drain.parked", Type: Text, Default: ParkedKeep, Allowed: []string{ParkedKeep, ParkedClose},
			Meaning: `What becomes of open connections to the version before while the new one bakes, with kinds other than
				sdk (the SDK moves them in any case). "keep" leaves them where they are until the drain. "close" closes
				them one at a time, each between two requests, and streams that have been silent for long, so that
				clients come to the new version: for programs that push from memory. After a rollback they come back in
				the same way.`},
		{Path: "restart", Type: Section, Meaning: `What happens to a worker that ends by itself: the same version is started again.`},
		{Path: "restart.initial", Type: Duration, Default: "100ms", Min: "10ms", Max: "1m",
			Meaning: `The first wait; it doubles with each death and varies a little.`},
		{Path: "restart.max", Type: Duration, Default: "10s", Min: "10ms", Max: "10m", Meaning: `The longest wait; at least restart.initial.`},
		{Path: "restart.loop", Type: Integer, Default: "5", Unit: "exits", Min: "2", Max: "100",
			Meaning: `So many ends within loop_window are a crash loop: it is rolled back if there is a kept version that passes
				its checks.`},
		{Path: "restart.loop_window", Type: Duration, Default: "1m", Min: "1s", Max: "1h", Meaning: `The time in which ends are counted.`},
		{Path: "unavailable", Type: Section, Meaning: `What clients get when no worker is alive.`},
		{Path: "unavailable.after", Type: Duration, Default: "5s", Min: "0", Max: "10m", Meaning: `How long they are kept waiting before.`},
		{Path: "unavailable.answer", Type: Text, Default: "503", Allowed: []string{"503", "reset", "hold"},
			Meaning: `"503" answers HTTP with that status (and resets connections that are not HTTP), "reset" closes them at
				once, "hold" keeps them waiting for a bounded time.`},
		{Path: "stop_timeout", Type: Duration, Default: "60s", Min: "1s", Max: "24h",
			Meaning: `How long a stop waits for what is open.`},
		{Path: "stop_announce", Type: Duration, Default: "0", Min: "0", Max: "1h",
			Meaning: `How long a stop is announced before anything is drained: workers serve on in full, and answer checks of
				their readiness (worker.Readiness) with 503, so that load balancers in front look away first. 0: not at all.
				Give it a little more than the load balancer takes to notice.`},
		{Path: "state", Type: Section,
			Meaning: `What workers built on the worker package may have the master keep for the next version, or for their
				replacement after a crash: named pieces of memory. Versions share them instead of copying. They are dropped
				when the service stops, but for those that the program wants kept; these are written to state_dir.`},
		{Path: "state.blob", Type: Size, Default: "64MiB", Min: "0", Max: "64GiB", Meaning: `The largest one; a larger one is refused.`},
		{Path: "state.total", Type: Size, Default: "256MiB", Min: "0", Max: "1TiB",
			Meaning: `All of them together. What is kept when a reload makes this smaller stays.`},
		{Path: "state.count", Type: Integer, Default: "64", Unit: "blobs", Min: "0", Max: "1024", Meaning: `How many there may be.`},
	}
}

func masterKeys() []Key {
	return []Key{
		{Path: "admin", Type: Section,
			Meaning: `Who may use the admin socket besides root and the master's own user. The permissions of the socket follow.`},
		{Path: "admin.readers_group", Type: Text, Restart: true, Example: "adm", Meaning: `A group whose members may look.`},
		{Path: "admin.operators_group", Type: Text, Restart: true, Example: "deploy", Meaning: `A group whose members may change things.`},
		{Path: "admin.metrics", Type: Text, Restart: true, Example: "127.0.0.1:9464",
			Meaning: `HOST:PORT on which /metrics is served for Prometheus, besides the admin socket; without HOST on 127.0.0.1.
				Whoever reaches it may read: no request, address or secret is in there, but names of versions and routes are.
				It is answered by the master and is no listener of the service. When empty there is none.`},
		{Path: "admin.page", Type: Text, Restart: true, Example: "127.0.0.1:9470",
			Meaning: `HOST:PORT on which the live page of "masterd page" is kept; without HOST on 127.0.0.1. It is on loopback
				alone, as it is not encrypted; from elsewhere it is reached by ssh -L. When empty it has any port, for as
				long as somebody looks.`},
		{Path: "versions", Type: Section, Meaning: `What may be run besides what is configured.`},
		{Path: "versions.allow", Type: Paths, Example: `["/srv/shop/releases"]`,
			Meaning: `Directories below which members of admin.operators_group may have a program run, by reload --binary; root and
				the master's own user may name any. A program is taken by where it lies, behind all links. When empty it
				is the directory of the program of worker.command, unless that is one of the system's (/usr/bin and its
				kin): then operators may name no other program.`},
		{Path: "log", Type: Section, Meaning: `The master's own log, and the bounds of its workers' output.`},
		{Path: "log.level", Type: Text, Default: "info", Allowed: []string{"debug", "info", "warn", "error"}, Restart: true,
			Meaning: `The least important lines that are written.`},
		{Path: "log.format", Type: Text, Default: "auto", Allowed: []string{"auto", "console", "json"}, Restart: true,
			Meaning: `"auto" is console on a terminal, else json. Where standard error is systemd's journal, entries have
				priorities and fields (MASTERD_SERVICE, MASTERD_GENERATION, MASTERD_WORKER and others), and messages
				are for people with "auto", JSON with "json".`},
		{Path: "log.file", Type: Path, Restart: true, Example: "/var/log/masterd/shop.log",
			Meaning: `Where the log goes; when empty, to standard error. USR1 opens it anew after a rotation. It is a regular
				file with one name; a symbolic link is followed only if nobody but root and the master's user could have
				put it there. /dev/stdout and /dev/stderr are what masterd was started with. One that cannot be opened does
				not keep a master from starting: see status.`},
		{Path: "log.per_worker", Type: Rate, Default: "1MiB/s", Min: "1KiB/s", Max: "1GiB/s",
			Meaning: `How much output of one worker is passed on; more is dropped and counted. The master's own lines never are.`},
		{Path: "log.line", Type: Size, Default: "16KiB", Min: "256B", Max: "1MiB",
			Meaning: `The longest line of a worker's output; longer ones are cut.`},
	}
}
