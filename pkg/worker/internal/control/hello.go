package control

import (
	"os"
	"runtime"
	"slices"

	"github.com/masterd/masterd/pkg/ipc"
)

// helloState is what the next hello reports besides the worker's State: what an
// earlier master has made of it. It is never changed.
type helloState struct {
	lastSeq    uint64
	listeners  []string
	paused     bool
	background bool
}

// noteForHello puts what has changed where the link's goroutine finds it. A hello comes
// after the end of a connection, which the loop has handled by then, and all that came on it before.
func (l *lifecycle) noteForHello() {
	now := helloState{lastSeq: l.lastSeq, paused: l.paused, background: !l.jobs.idle()}
	for _, d := range l.listeners {
		if d.Bound() {
			now.listeners = append(now.listeners, d.Name)
		}
	}
	old := l.seen.Load()
	if old != nil && old.lastSeq == now.lastSeq && old.paused == now.paused && old.background == now.background &&
		slices.Equal(old.listeners, now.listeners) {
		return
	}
	l.seen.Store(&now)
}

// hello is called by the link's goroutine.
func (l *lifecycle) hello() ipc.Hello {
	h := ipc.Hello{
		Min:        ipc.MinVersion,
		Max:        ipc.MaxVersion,
		Worker:     l.info.Worker,
		Secret:     *l.secret.Load(),
		PID:        os.Getpid(),
		SDK:        "masterd-go " + runtime.Version(),
		Generation: l.info.Generation,
		State:      l.State(),
		Gives:      l.Sender.PeerIDs(),
	}
	if s := l.seen.Load(); s != nil {
		h.Seq, h.Listeners, h.Paused, h.Background = s.lastSeq, s.listeners, s.paused, s.background
	}
	return h
}
