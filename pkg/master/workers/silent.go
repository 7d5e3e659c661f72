package workers

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

const (
	lookInterval = time.Second // between two looks at a worker that has not spoken yet
	maxLooked    = 16          // processes of it; one with more is not looked at
	maxAddresses = 4           // on which it listens, that are named
)

// watchSilence tells the machine what is known of a worker that has not spoken yet, until
// it does. A program that is not built on the worker package never will, and to wait for
// health.start.timeout would tell nobody anything.
func (s *sdk) watchSilence() {
	set, id, session, process, groups := s.set, s.ID, s.session, s.process, s.set.System.Groups
	leader := s.leads()
	programs := programs{}
	set.Loop.Go(func() {
		next := time.NewTicker(lookInterval)
		defer next.Stop()
		for {
			select {
			case <-next.C:
			case <-process.Done():
				return
			case <-set.Loop.Life().Done():
				return
			case <-set.Loop.Done():
				return
			}
			if session.Spoke() {
				set.postEvent(rollout.Waiting{Worker: id, Detail: "it has connected to masterd, and has not said that it is ready"})
				return
			}
			pids := set.Processes(uint64(id), leader, groups)
			if len(pids) > maxLooked {
				continue
			}
			listens, err := set.System.Listening(pids)
			if err != nil {
				continue // ended just now, or not ours to look at
			}
			mute, speaks := programs.look(pids)
			detail, vain := describeSilence(listens, mute, speaks)
			set.postEvent(rollout.Waiting{Worker: id, Detail: detail, Vain: vain})
		}
	})
}

// describeSilence says what is known of a worker that never spoke. It is waited for in vain
// if it serves elsewhere, and no program that it consists of can speak.
func describeSilence(listens []netip.AddrPort, mute, speaks bool) (detail string, vain bool) {
	detail = "it never spoke to masterd"
	if len(listens) > 0 {
		var at []string
		for _, a := range listens[:min(len(listens), maxAddresses)] {
			at = append(at, a.String())
		}
		detail += "; it listens on " + strings.Join(at, ", ")
	}
	switch {
	case mute:
		detail += "; it is a Go program that is not built on pkg/worker: build it on that, or set worker.kind to " +
			"unmodified (it binds by itself) or socket-activation (it takes LISTEN_FDS)"
	case !speaks:
		detail += "; is it built on pkg/worker? Otherwise set worker.kind to unmodified (it binds by itself) or " +
			"socket-activation (it takes LISTEN_FDS)"
	}
	return detail, mute && len(listens) > 0
}

// programs remembers what was found of the programs that processes run, by device and inode:
// while one runs nobody can write to it.
type programs map[[2]uint64]speech

// speech is whether a program can speak the control protocol.
type speech uint8

const (
	speechUnknown speech = iota // another language may speak it, too
	mute                        // a Go program that knows nothing of it
	speaker
)

// look reports whether all processes are mute, and whether one can speak. Nothing is known
// of those that cannot be looked at.
func (p programs) look(pids []int) (allMute, speaks bool) {
	allMute = len(pids) > 0
	for _, pid := range pids {
		path := fmt.Sprintf("/proc/%d/exe", pid)
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil {
			allMute = false
			continue
		}
		key := [2]uint64{uint64(st.Dev), st.Ino}
		is, known := p[key]
		if !known {
			switch isGo, knows := version.Mentions(path, ipc.EnvSecret); {
			case knows:
				is = speaker
			case isGo:
				is = mute
			}
			if len(p) < maxLooked {
				p[key] = is
			}
		}
		allMute = allMute && is == mute
		speaks = speaks || is == speaker
	}
	return allMute, speaks
}
