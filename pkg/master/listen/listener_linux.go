package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// Kinds of steering, as status shows them.
const (
	kernel = steer.Kernel
	link   = steer.Link
	shared = steer.Shared

	sharedReason = SharedReason
)

// listener is one public address. Its Set's lock guards it once it is open.
type listener struct {
	conf     config.Listener
	heldAs   string // its name when it was opened; empty: that of conf
	system   system
	steering string
	reason   string // why not the normal way
	split    string // why not by the weights that were asked for

	// sockets are the slots', and one more, the master's own, at the end. A
	// shared listener has one in all.
	sockets  []*socket
	assigned []bool // by slot

	mode   mode
	shares []Share   // while serving: assigned slots only
	sticky uint32    // the salt that came with them
	aimed  time.Time // when the mode changed

	drift uint64

	// given: the master's own socket is the service manager's, and outlives it.
	given bool

	// inherited: it is steered as an earlier Set has left it, which is not known
	// here; it stays so until the first Steer.
	inherited bool
	kept      []int    // the order that is kept with the master's own socket
	strays    []int    // clients' connections that were found at a takeover, to be passed on
	dropped   []string // names of what is no more held since the takeover

	tcpState
	unixState
}

// unixState is what a listener on a path has besides.
type unixState struct {
	front     int // the socket that the public path leads to
	access    access
	unknown   bool // where its names lead could not be looked at since it was taken over
	unsteered bool // it was to be steered, and is as it was: its directory is not trusted
	strayed   bool // it was said that somebody else has changed it or its path, and it cannot be put back
}

// tcpState is what a listener on an address has besides.
type tcpState struct {
	addr     netip.AddrPort
	dual     bool // an IPv6 wildcard that takes IPv4 too
	limit    int  // of a queue, as the kernel cut it
	baseline steer.Baseline
	// order is the kernel's array: the sockets in the order of their listen().
	// A socket that was shut down leaves a hole that the last one fills.
	order steer.Array

	refused int  // connections to a slot, in a row, that could not be made
	proved  bool // one could
	suspect bool // somebody may have moved slots
}

// own is the index of the master's own socket.
func (l *listener) own() int { return len(l.sockets) - 1 }

// socketOf is the one that a slot's worker holds.
func (l *listener) socketOf(slot int) *socket {
	if l.steering == shared {
		return l.sockets[0]
	}
	return l.sockets[slot]
}

// ofAssigned are the shares whose slots are assigned here.
func (l *listener) ofAssigned(shares []Share) []Share {
	var mine []Share
	for _, s := range shares {
		if l.assigned[s.Slot] {
			mine = append(mine, s)
		}
	}
	return mine
}

// aim steers the listener. On an error it is steered as before.
func (l *listener) aim(m mode, shares []Share, sticky uint32) error {
	var err error
	split, unsteered := "", false
	switch l.steering {
	case kernel:
		// Through the master's own: on a socket that somebody has shut down just
		// now, a program would bar it from the group.
		err = l.system.attach(l.sockets[l.own()].fd, l.program(shares, sticky))
	case link:
		err = l.show(l.heaviest(shares))
		if untrusted(err) { // that is no reason not to steer the others
			split, unsteered, err = fmt.Sprintf("the path is left as it is: %v", err), true, nil
		}
	case shared: // who accepts is between the driver and its workers
	}
	if err != nil {
		return fmt.Errorf("steering listener %s: %w", l.conf.Name, err)
	}
	if l.inherited || l.mode != m {
		l.aimed = time.Now()
	}
	l.mode, l.shares, l.sticky, l.inherited = m, slices.Clone(shares), sticky, false
	l.split, l.unsteered = split, unsteered
	if l.steering == link && !unsteered && len(shares) > 1 {
		l.split = fmt.Sprintf("a Unix socket cannot be split by weight: slot %d takes all of %d shares",
			l.heaviest(shares), len(shares))
	}
	return nil
}

// program is the one that steers by the shares; by none, to the master's own socket.
func (l *listener) program(shares []Share, sticky uint32) []bpf.Instruction {
	return l.programFor(l.order.Indices(l.own()), shares, sticky)
}

func (l *listener) programFor(at []uint32, shares []Share, sticky uint32) []bpf.Instruction {
	targets := make([]steer.Target, 0, max(1, len(shares)))
	for _, s := range shares {
		targets = append(targets, steer.Target{Index: at[s.Slot], Weight: s.Weight, Canary: s.Canary})
	}
	if len(targets) == 0 {
		targets = append(targets, steer.Target{Index: at[l.own()], Weight: 1})
	}
	g := steer.Group{Index: at[:l.own()], IPv4: l.dual || l.addr.Addr().Is4(), IPv6: l.addr.Addr().Is6()}
	return g.Program(targets, sticky)
}

// reattach puts the program in force again: somebody may have attached another one.
func (l *listener) reattach(log *zap.Logger) {
	if err := l.system.attach(l.sockets[l.own()].fd, l.program(l.shares, l.sticky)); err != nil {
		log.Error("steering cannot be put in force again", zap.String("listener", l.conf.Name), zap.Error(err))
	}
}

// accepts tells whether what arrives in socket i is to be accepted here, now.
func (l *listener) accepts(i int) bool {
	switch {
	case l.mode == holding:
		return false
	case l.steering == shared:
		return l.mode == answering
	}
	return i == l.own() || !l.assigned[i]
}

// tune gives a slot's socket to its next worker as if it were new.
func (l *listener) tune(slot int) error {
	s, was := l.socketOf(slot), slot
	if l.conf.Network != "unix" {
		l.baseline.Restore(s.fd)
	}
	if l.steering == shared {
		slot = 0
	}
	if err := l.rejoin(slot); err != nil { // a worker's own listen() may have cut the backlog
		return fmt.Errorf("setting the backlog of listener %s: %w", l.conf.Name, err)
	}
	if l.heldBeside(was) {
		return nil // their accept may rely on its mode
	}
	return steer.Nonblock(s.fd)
}

// heldBeside tells whether workers of other slots have the slot's socket.
func (l *listener) heldBeside(slot int) bool {
	if l.steering != shared {
		return false
	}
	for other, assigned := range l.assigned {
		if assigned && other != slot {
			return true
		}
	}
	return false
}

// status is what is known without asking for Unix queues, which may load a
// module of the kernel. The limit is that of the sockets in use.
func (l *listener) status() api.Listener {
	st := api.Listener{
		Name: l.conf.Name, Address: address(l.conf), Steering: l.steering,
		Reason: l.reason, Drift: l.drift,
	}
	if st.Reason == "" {
		st.Reason = l.split
	}
	if l.conf.Network == "unix" {
		return st
	}
	if l.conf.Port == 0 {
		st.Address = l.conf.Network + "://" + l.addr.String()
	}
	for i, s := range l.sockets {
		length, limit, _ := steer.Queue(s.fd)
		st.Queue += length
		if l.inUse(i) {
			st.QueueLimit += limit
		}
	}
	return st
}

// at is where it can be reached.
func (l *listener) at() string {
	if l.conf.Network == "unix" {
		return l.conf.Path
	}
	return l.addr.String()
}

// inUse tells whether new connections can go to socket i.
func (l *listener) inUse(i int) bool {
	switch {
	case l.steering == shared:
		return true
	case l.steering == link:
		return i == l.front
	case len(l.shares) == 0:
		return i == l.own()
	}
	return slices.ContainsFunc(l.shares, func(s Share) bool { return s.Slot == i })
}

// change applies what can change of an open listener.
func (l *listener) change(c config.Listener, who access) error {
	if c.Steering != l.conf.Steering && (c.Steering == shared) != (l.steering == shared) {
		return &Error{
			Listener: c.Name, Address: address(c),
			Advice: "restart the service for it, or give the listener another name and address",
			Err:    fmt.Errorf("steering cannot change from %s to %s while the listener is open", l.steering, c.Steering),
		}
	}
	if c.Network == "unix" && who != l.access {
		if err := l.permit(who); err != nil {
			return errors.Join(err, l.permit(l.access))
		}
		l.access = who
	}
	if c.Backlog != l.conf.Backlog {
		for _, s := range l.sockets {
			if err := unix.Listen(s.fd, c.Backlog); err != nil {
				return fmt.Errorf("setting the backlog of listener %s: %w", c.Name, err)
			}
		}
		if c.Network != "unix" {
			_, l.limit, _ = steer.Queue(l.sockets[l.own()].fd)
		}
	}
	l.conf = c
	return nil
}

// close ends the listener for good, also where a worker still holds a duplicate.
// What is the service manager's goes on listening.
func (l *listener) close() {
	l.closeStrays()
	if l.conf.Network == "unix" {
		l.hide()
	}
	for i, s := range l.sockets {
		if s.fd >= 0 {
			if !l.given || i != l.own() {
				_ = unix.Shutdown(s.fd, unix.SHUT_RDWR)
			}
			if l.conf.Network == "unix" { // what clients have sent is queued in it
				fdpass.Discard(s.fd)
			} else {
				_ = unix.Close(s.fd)
			}
		}
	}
}

func (l *listener) closeStrays() {
	for _, fd := range l.strays {
		fdpass.DiscardConn(fd)
	}
	l.strays = nil
}
