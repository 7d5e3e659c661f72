package unitfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/draft"
)

// Note is what is to be said about one key.
type Note struct {
	Key  string
	Text string
	Open bool // something is lost, or is to be done by a person
}

// Unit is what becomes of a service unit and its socket.
type Unit struct {
	Name    string // of the unit, without .service
	Service string // masterd's
	Text    string // the configuration; empty: none could be made
	Notes   []Note

	worker    worker
	files     []string // of EnvironmentFile=
	listeners []listener
	socket    bool // its sockets are those of a socket unit
	sockets   bool // it says that it has one
	oneshot   bool // it is meant to end
	limits    map[string]string
	stop      time.Duration // TimeoutStopSec=; zero: not given, forever: none
	start     time.Duration // TimeoutStartSec=, in the same way
	restart   time.Duration // RestartSec=
	sign      string        // what makes it look as if it listened by itself
	preset    *draft.Preset // nil: nothing is known of the program
}

// worker is what is run.
type worker struct {
	command     []string
	env         map[string]string
	directory   string
	user, group string
	signal      string
	ready       bool // it says READY=1
	access      string
	watchdog    time.Duration
	stored      int // descriptors
	privileges  string
	nonBlocking bool
}

// listener is an address that the socket unit has systemd listen on.
type listener struct {
	name, address string
	backlog       int // 0: not given
}

// Open tells whether anything is lost, or is to be done by a person.
func (u *Unit) Open() bool { return slices.ContainsFunc(u.Notes, func(n Note) bool { return n.Open }) }

func (u *Unit) lost(key, format string, args ...any) {
	u.Notes = append(u.Notes, Note{key, fmt.Sprintf(format, args...), true})
}

func (u *Unit) say(key, format string, args ...any) {
	u.Notes = append(u.Notes, Note{key, fmt.Sprintf(format, args...), false})
}

var errNone = errors.New("there is no [Service] in it with an ExecStart= that can be run")

// Import reads a service unit and, if one is named, the socket unit that goes with it, each with
// its drop-ins, and makes a configuration. It is checked as the master would, but for what
// host says.
func Import(service, socket string, host config.Host) (*Unit, error) {
	path, err := filepath.Abs(service)
	if err != nil {
		return nil, err
	}
	entries, wrong, err := read(path)
	if err != nil {
		return nil, err
	}
	file := filepath.Base(path)
	u := &Unit{Name: strings.TrimSuffix(file, ".service"), limits: map[string]string{}}
	u.worker.env = map[string]string{}
	for _, w := range wrong {
		u.lost(file, "%s", w)
	}
	u.service(entries, specifiersOf(file))
	if len(u.worker.command) == 0 {
		return nil, fmt.Errorf("%s: %w%s", path, errNone, u.why())
	}
	if socket != "" {
		if err := u.socketUnit(socket); err != nil {
			return nil, err
		}
	} else {
		u.withoutSocket(path)
	}
	u.recognise()
	u.Service = draft.ServiceName(u.Name, map[string]bool{})
	if u.Service != u.Name {
		u.say("name", "is %s here: at most %d of a-z, 0-9 and \"-\"", u.Service, draft.MaxName)
	}
	u.check(path, host)
	return u, nil
}

// why is what was said of the command.
func (u *Unit) why() string {
	for _, n := range u.Notes {
		if n.Key == "ExecStart" {
			return ": " + n.Text
		}
	}
	return ""
}

// withoutSocket looks where the program listens by itself: its unit does not say.
func (u *Unit) withoutSocket(path string) {
	beside := strings.TrimSuffix(path, ".service") + ".socket"
	if _, err := os.Stat(beside); err == nil || u.sockets {
		u.lost("Sockets", "its sockets are those of %s: name that file, too", filepath.Base(beside))
	}
	var address string
	if u.sign, address = draft.AddressOf(u.worker.command, u.worker.env); address != "" {
		u.listeners = []listener{{name: "http", address: draft.Listener(address)}}
	}
}

// recognise finds the preset for a program, which knows the server's signals better than a
// unit for a manager that has only one.
func (u *Unit) recognise() {
	if u.preset = draft.PresetOf(u.worker.command); u.preset != nil {
		u.say("preset", "is %s: what masterd knows of this server", u.preset.Name)
		if u.worker.signal != "" {
			u.say("KillSignal", "the preset knows which signals have it finish and end")
			u.worker.signal = ""
		}
		if u.sign == "" && !u.socket {
			u.sign = "it is " + u.preset.Name
		}
	}
	if u.sign != "" {
		u.lost("listeners", "it seems to listen (%s): see the TODO in the file", u.sign)
	}
}

// check writes the configuration and has it read.
func (u *Unit) check(from string, host config.Host) {
	if _, err := config.Parse("/etc/masterd/"+u.Service+".yaml", []byte(u.write(from)), nil, host); err != nil {
		for line := range strings.Lines(err.Error()) {
			u.lost("check", "%s", strings.TrimSpace(strings.TrimPrefix(line, "/etc/masterd/")))
		}
	}
	u.Text = u.write(from)
}
