package notify

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxName is the longest name of a stored descriptor, in bytes.
const maxName = 255

// maxTime is the longest time that is believed: what is said of more is no time.
const maxTime = 24 * time.Hour

// Message is what one datagram says; see sd_notify(3). The zero value says
// nothing.
type Message struct {
	Ready     bool
	Reloading bool
	Stopping  bool
	Status    string // empty: none, or an empty one
	HasStatus bool
	Errno     int           // zero: none
	MainPID   int           // zero: none
	Access    Access        // NOTIFYACCESS: who may speak from now on; empty: none
	Extend    time.Duration // EXTEND_TIMEOUT_USEC; zero: none
	Watchdog  bool          // it is alive
	Trigger   bool          // it wants its watchdog to act now
	Every     time.Duration // WATCHDOG_USEC: what its watchdog is to be from now on
	HasEvery  bool
	Store     bool   // keep the descriptors that come with it
	Remove    bool   // let go what is kept by the name
	Name      string // of what is stored or removed; empty: it has none
	Poll      bool   // what is stored is let go when its other end is gone
	Barrier   bool   // close the descriptor when all before is done

	// Problems are assignments that were not understood and are left out.
	Problems []string
}

// Access says who may speak for a worker.
type Access string

// Levels of access, as NOTIFYACCESS= has them.
const (
	AccessNone Access = "none" // nobody
	AccessMain Access = "main" // its main process
	AccessAll  Access = "all"  // any process of its group
)

// mergeable: it can be heard together with those after it, as one message. What
// brings descriptors, or lets go of stored ones, has its place in the order.
func (m Message) mergeable() bool { return !m.Store && !m.Remove && !m.Barrier }

// merge adds what was said later: a fact stays, of two values the later one counts.
func (m Message) merge(later Message) Message {
	m.Ready = m.Ready || later.Ready
	m.Reloading = m.Reloading || later.Reloading
	m.Stopping = m.Stopping || later.Stopping
	m.Watchdog = m.Watchdog || later.Watchdog
	m.Trigger = m.Trigger || later.Trigger
	if later.HasStatus {
		m.Status, m.HasStatus = later.Status, true
	}
	if later.HasEvery {
		m.Every, m.HasEvery = later.Every, true
	}
	m.Errno = cmp.Or(later.Errno, m.Errno)
	m.MainPID = cmp.Or(later.MainPID, m.MainPID)
	m.Extend = cmp.Or(later.Extend, m.Extend)
	m.Access = cmp.Or(later.Access, m.Access)
	return m
}

// Errors of messages that are refused whole.
var (
	errNUL      = errors.New("it has a NUL byte")
	errEmpty    = errors.New("it is empty")
	errNoAssign = errors.New("a line of it is no KEY=VALUE")
	errBarrier  = errors.New("BARRIER=1 does not come alone, with one descriptor")
)

// Parse reads a message that brought so many descriptors. Keys that are not
// known are passed over, as sd_notify(3) demands; a value that makes no sense
// costs only itself.
func Parse(text []byte, fds int) (Message, error) {
	m := Message{Poll: true}
	text = bytes.TrimSuffix(text, []byte("\n"))
	switch {
	case bytes.IndexByte(text, 0) >= 0:
		return m, errNUL
	case len(text) == 0:
		return m, errEmpty
	}
	lines := 0
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		if len(line) == 0 {
			continue
		}
		key, value, ok := strings.Cut(string(line), "=")
		if !ok || key == "" {
			return m, errNoAssign
		}
		lines++
		if err := m.assign(key, value); err != nil {
			m.Problems = append(m.Problems, fmt.Sprintf("%s: %v", key, err))
		}
	}
	if m.Barrier && (lines != 1 || fds != 1) {
		return m, errBarrier
	}
	return m, nil
}

func (m *Message) assign(key, value string) (err error) {
	switch key {
	case "READY":
		m.Ready, err = one(value)
	case "RELOADING":
		m.Reloading, err = one(value)
	case "STOPPING":
		m.Stopping, err = one(value)
	case "BARRIER":
		m.Barrier, err = one(value)
	case "FDSTORE":
		m.Store, err = one(value)
	case "FDSTOREREMOVE":
		m.Remove, err = one(value)
	case "FDPOLL":
		if value != "0" {
			return fmt.Errorf("%.20q is not 0", value)
		}
		m.Poll = false
	case "FDNAME":
		if !speakable(value) {
			return fmt.Errorf("a name has 1 to %d printable ASCII characters, and no colon", maxName)
		}
		m.Name = value
	case "STATUS":
		if !utf8.ValidString(value) {
			return errors.New("it is not UTF-8")
		}
		m.Status, m.HasStatus = value, true
	case "ERRNO":
		m.Errno, err = number(value, math.MaxInt32)
	case "MAINPID":
		m.MainPID, err = number(value, math.MaxInt32)
		if err == nil && m.MainPID < 2 {
			m.MainPID, err = 0, fmt.Errorf("%.20q is no worker's", value)
		}
	case "NOTIFYACCESS":
		switch a := Access(value); a {
		case AccessNone, AccessMain, AccessAll:
			m.Access = a
		case "exec": // the main process, and commands that masterd does not have
			m.Access = AccessMain
		default:
			return fmt.Errorf("%.20q is not none, main, exec or all", value)
		}
	case "EXTEND_TIMEOUT_USEC":
		m.Extend, err = microseconds(value)
	case "WATCHDOG_USEC":
		m.Every, err = microseconds(value)
		m.HasEvery = err == nil
	case "WATCHDOG":
		switch value {
		case "1":
			m.Watchdog = true
		case "trigger":
			m.Trigger = true
		default:
			return fmt.Errorf("%.20q is neither 1 nor trigger", value)
		}
	}
	return err
}

func one(value string) (bool, error) {
	if value != "1" {
		return false, fmt.Errorf("%.20q is not 1", value)
	}
	return true, nil
}

func number(value string, most int) (int, error) {
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || n > uint64(most) {
		return 0, fmt.Errorf("%.20q is no number up to %d", value, most)
	}
	return int(n), nil
}

func microseconds(value string) (time.Duration, error) {
	n, err := number(value, int(maxTime/time.Microsecond))
	return time.Duration(n) * time.Microsecond, err
}

// speakable is what LISTEN_FDNAMES can say.
func speakable(name string) bool {
	return name != "" && len(name) <= maxName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' })
}
