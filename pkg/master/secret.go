package master

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/session"
)

// The secret that a worker is started with is in its environment, which all processes
// of its user can read. Workers that speak version 2 of the protocol get another one
// over the connection that they have inherited, and the first is void.

// secret is what the master knows of a worker's: digests, and no secret.
type secret struct {
	hash    string // SHA-256
	next    string // of the one that it was sent, and has not said it has; empty: none
	renewed bool   // hash is of one that was sent: it was in no environment
}

// inherit adds the worker's own control connection to a spec. Its end of it is to be
// closed once the worker has it. It runs beside the loop.
func (m *Master) inherit(w *worker, spec *proc.Spec, env map[string]string) (fd int, err error) {
	if fd, err = w.session.Inherit(); err != nil {
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
func (m *Master) renewSecret(w *worker, h *ipc.Hello) {
	if h == nil {
		return
	}
	version, err := ipc.Negotiate(h.Min, h.Max)
	if err != nil {
		return
	}
	w.protocol = version
	if version < ipc.RenewVersion || w.secret.renewed {
		return
	}
	fresh := session.NewSecret()
	w.secret.next = session.HashSecret(fresh)
	if !m.keepLive() {
		w.secret.next = "" // the next master would not know it; when it connects again, perhaps
		return
	}
	m.effect(secretSent{})
	if err := w.session.Renew(fresh); err != nil {
		m.log.Debug("a worker cannot be sent another secret now", append(m.fields(w), zap.Error(err))...)
	}
	m.effect(secretSent{})
}

// secretRenewed: the worker has the secret that it was sent.
func (m *Master) secretRenewed(w *worker) {
	m.effect(secretSent{})
	w.secret = secret{hash: w.secret.next, renewed: true}
	m.keepLive()
	m.effect(secretSent{})
}

// secretSent is a moment at which a test may have the master die: between any two steps
// of a renewal.
type secretSent struct{}
