package workers

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/session"
)

// The secret that a worker is started with is in its environment, which all processes of
// its user can read, so it serves once. A worker that speaks version 2 of the protocol gets
// another one over the connection that it has inherited, and the first is void. Whether a
// program's SDK knows of that connection a master cannot know before its hello, so both are
// always given. The new secret is written down (as a digest) before it is sent.

// secret is what the master knows of a worker's: digests, and no secret.
type secret struct {
	hash    string // SHA-256
	next    string // of the one that it was sent, and has not said it has; empty: none
	renewed bool   // hash is of one that was sent: it was in no environment
}

// inherit adds the worker's own control connection to a spec. Its end of it is to be
// closed once the worker has it. It runs beside the loop.
func (s *sdk) inherit(spec *proc.Spec, env map[string]string) (fd int, err error) {
	if fd, err = s.session.Inherit(); err != nil {
		return -1, err
	}
	value, err := ipc.InheritedAs(proc.FirstFile+len(spec.Files), fd)
	if err != nil {
		closeFD(fd)
		return -1, fmt.Errorf("naming its control connection: %w", err)
	}
	env[ipc.EnvControlFD] = value
	spec.Files = append(spec.Files, proc.File{Name: "control", FD: fd})
	return fd, nil
}

// renewSecret sends a worker that has just connected another secret, if it is to have
// one. The digests of both are in live.json before: whenever this master dies, the next
// one knows the worker by what it has.
func (s *sdk) renewSecret(h *ipc.Hello) {
	if h == nil {
		return
	}
	version, err := ipc.Negotiate(h.Min, h.Max)
	if err != nil {
		return
	}
	s.protocol = version
	if version < ipc.RenewVersion || s.secret.renewed {
		return
	}
	fresh := session.NewSecret()
	s.secret.next = session.HashSecret(fresh)
	if !s.set.Master.KeepLive() {
		s.secret.next = "" // the next master would not know it; when it connects again, perhaps
		return
	}
	s.set.Master.Effect(secretSent{})
	if err := s.session.Renew(fresh); err != nil {
		s.set.Log.Debug("a worker cannot be sent another secret now", append(s.set.Fields(s.Worker), zap.Error(err))...)
	}
	s.set.Master.Effect(secretSent{})
}

// secretRenewed notes that the worker has the secret that it was sent.
func (s *sdk) secretRenewed() {
	s.set.Master.Effect(secretSent{})
	s.secret = secret{hash: s.secret.next, renewed: true}
	s.set.Master.KeepLive()
	s.set.Master.Effect(secretSent{})
}

// secretSent is a moment at which a test may have the master die: between any two steps
// of a renewal.
type secretSent struct{}
