package session

import (
	"os"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
)

// The control socket belongs to the user whose workers are to come by its path, and the
// kernel refuses all others. Workers of several users may have to: after a takeover in
// the middle of a rollout that changes worker.user. A socket has one owner, so everybody
// may connect until they are there. Who is no worker gets no further than before (see
// hear), and few of the places.

// guest is a connection whose hello was not accepted yet.
type guest struct {
	admitted *Session // whose process was let past a crowd, or nil
	stranger bool     // it is of a user that no worker has
}

// let gives the socket to whom it has to be open for now. A worker that is connected does
// not count: it comes again only when that is over.
func (h *Hub) let() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	users := map[uint32]bool{}
	for _, s := range h.sessions {
		if !s.Connected() {
			users[s.expect.UID] = true
		}
	}
	mode, owner := os.FileMode(socketMode), h.owner
	switch {
	case len(users) > 1:
		mode = openMode
	case len(users) == 1:
		for uid := range users {
			owner = int(uid)
		}
	}
	if mode == h.mode && owner == h.owner {
		return
	}
	if mode == openMode && h.mode != openMode {
		h.log.Info("workers of several users are awaited: every user may connect to the control socket until they are back", zap.String("path", h.path), zap.Int("users", len(users)))
	}
	h.mode, h.owner = mode, owner // also what it is made again with
	_, err := h.mend()
	if err == nil {
		err = h.socket.Permit(mode, owner, -1)
	}
	if err != nil {
		h.log.Error("workers cannot connect by the control socket's path: it cannot be given to their user", zap.Int("uid", owner), zap.Error(err))
	}
}

// receive greets a connection beside the accepting goroutine, if there is room.
func (h *Hub) receive(link *ipc.Link, cred ipc.Cred) {
	h.mu.Lock()
	who, room := h.admit(cred)
	if room {
		h.greeting[link] = who
		h.tasks.Add(1)
	}
	h.mu.Unlock()
	if !room {
		_ = link.Close()
		h.door.refuse(refusal{RefusedCrowd, "as many connections are already waiting to say hello as may"}, cred)
		return
	}
	go func() {
		defer h.tasks.Done()
		h.greet(link, cred)
	}()
}

// admit says whether one more may come in before its hello. A process that is
// expected, and has nobody before the door yet, always may: a crowd of others
// must not keep a worker out. h.mu is held.
func (h *Hub) admit(cred ipc.Cred) (who guest, ok bool) {
	if h.closed {
		return who, false
	}
	who.stranger = true
	for _, s := range h.sessions {
		if s.expect.UID == cred.UID {
			who.stranger = false
		}
	}
	strangers := 0
	for _, g := range h.greeting {
		if g.stranger {
			strangers++
		}
	}
	if who.stranger {
		return who, strangers < maxStrangers
	}
	if len(h.greeting)-strangers < maxGreeting {
		return who, true
	}
	for _, s := range h.sessions {
		if s.admit(cred.PID) {
			who.admitted = s
			return who, true
		}
	}
	return who, false
}

// dismiss ends the time before hello, one way or the other.
func (h *Hub) dismiss(link *ipc.Link) {
	h.mu.Lock()
	who := h.greeting[link]
	delete(h.greeting, link)
	h.mu.Unlock()
	if who.admitted != nil {
		who.admitted.admitAgain()
	}
}
