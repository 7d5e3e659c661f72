//go:build linux

package session

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

func keepMessage(seq uint64) ipc.Message {
	return ipc.Message{Type: ipc.TypeKeep, Seq: seq, Blob: &ipc.Blob{Name: "list", Size: 4}}
}

// What a worker asks comes with its own number and, to keep, its memory; the
// answers repeat the number and are none of our requests.
func TestWishes(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	r, w := pipe(t)

	if err := p.Send(keepMessage(41), w); err != nil {
		t.Fatal(err)
	}
	closeFDs([]int{w})
	f := e.want(Keep)
	if f.Seq != 41 || f.Blob == nil || f.Blob.Name != "list" || f.FD < 3 {
		t.Fatalf("%+v", f)
	}
	closeFDs([]int{f.FD}) // it was the last
	wantClosed(t, r)

	if err := e.Kept(41, ipc.Blob{Name: "list", Revision: 7}); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.hear(ipc.TypeKept); m.Seq != 41 || m.Blob.Revision != 7 {
		t.Errorf("%+v", m)
	}
	p.say(ipc.Message{Type: ipc.TypeFetch, Seq: 42, Blob: &ipc.Blob{Name: "list"}})
	if f := e.want(Fetch); f.Seq != 42 || f.FD != -1 {
		t.Errorf("%+v", f)
	}
	r, w = pipe(t)
	if err := e.Blob(42, ipc.Blob{Name: "list", Size: 4, Revision: 7}, w); err != nil {
		t.Fatal(err)
	}
	closeFDs([]int{w}) // ours: the one that travels is another
	m, fds := p.hear(ipc.TypeBlob)
	if m.Seq != 42 || m.Blob.Size != 4 || len(fds) != 1 {
		t.Errorf("%+v, %v", m, fds)
	}
	closeFDs(fds)
	wantClosed(t, r)
	if err := e.Blob(43, ipc.Blob{Name: "list", None: true}, -1); err != nil {
		t.Fatal(err)
	}
	if m, fds := p.hear(ipc.TypeBlob); m.Seq != 43 || !m.Blob.None || len(fds) != 0 {
		t.Errorf("%+v, %v", m, fds)
	}
	p.say(ipc.Message{Type: ipc.TypeForget, Seq: 44, Blob: &ipc.Blob{Name: "list"}})
	if f := e.want(Forget); f.Seq != 44 || f.FD != -1 {
		t.Errorf("%+v", f)
	}
	if err := e.Refuse(44, "no,\x1b[31m "+strings.Repeat("x", 2*maxText)); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.hear(ipc.TypeRefused); m.Seq != 44 || len(m.Text) > maxText || strings.ContainsRune(m.Text, 0x1b) {
		t.Errorf("%+v", m)
	}
	// Our own count is as it was.
	if err := e.Park(); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.hear(ipc.TypePark); m.Seq != 1 {
		t.Errorf("%+v", m)
	}
	if err := e.Blob(45, ipc.Blob{Name: "list"}, -1); !errors.Is(err, unix.EBADF) {
		t.Errorf("handed out a descriptor that is none: %v", err)
	}
	p.Close()
	e.want(Lost)
	if err := e.Kept(46, ipc.Blob{Name: "list"}); err == nil {
		t.Error("answered without a connection")
	}
}

// Wishes of which one cannot be followed: the connection ends, and nothing
// stays open.
func TestMalformedWishes(t *testing.T) {
	for name, c := range map[string]struct {
		frame string
		fds   int
	}{
		"nothing to keep":           {`{"type":"keep","seq":1,"blob":{"name":"a","size":4}}`, 0},
		"two to keep":               {`{"type":"keep","seq":1,"blob":{"name":"a","size":4}}`, 2},
		"many to keep":              {`{"type":"keep","seq":1,"blob":{"name":"a","size":4}}`, 253},
		"without a number":          {`{"type":"keep","blob":{"name":"a","size":4}}`, 1},
		"without a blob":            {`{"type":"keep","seq":1}`, 1},
		"without a name":            {`{"type":"keep","seq":1,"blob":{"size":4}}`, 1},
		"with an endless name":      {`{"type":"fetch","seq":1,"blob":{"name":"` + strings.Repeat("a", 1000) + `"}}`, 0},
		"of less than nothing":      {`{"type":"keep","seq":1,"blob":{"name":"a","size":-1}}`, 1},
		"of too much for a number":  {`{"type":"keep","seq":1,"blob":{"name":"a","size":1e30}}`, 1},
		"with two conditions":       {`{"type":"keep","seq":1,"blob":{"name":"a","if":3,"new":true}}`, 1},
		"what only a master says":   {`{"type":"kept","seq":1,"blob":{"name":"a"}}`, 0},
		"what only a master gives":  {`{"type":"blob","seq":1,"blob":{"name":"a","size":4}}`, 1},
		"what a master has not got": {`{"type":"blob","seq":1,"blob":{"name":"a","none":true}}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			e := h.expect()
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: h.path}); err != nil {
				t.Fatal(err)
			}
			r, w := pipe(t)
			s := stranger{t, fd}
			s.say(`{"type":"hello","hello":{"min":1,"max":1,"worker":7,"generation":3,"pid":1,"state":"new","secret":"` + e.e.Secret + `"}}`)
			e.want(Connected)
			fds := make([]int, c.fds)
			for i := range fds {
				fds[i] = w
			}
			if err := unix.Sendmsg(fd, []byte(c.frame), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
				t.Fatal(err)
			}
			closeFDs([]int{w})
			e.want(Lost)
			wantClosed(t, r)
		})
	}
}

// Ten thousand in a row: the connection ends at the limit, and what had come is
// the callback's; nothing else stays open.
func TestAFloodOfWishes(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateActive)
	e.want(Ready)
	r, w := pipe(t)
	for seq := range uint64(10_000) {
		if p.Send(keepMessage(seq+1), w) != nil {
			break
		}
	}
	closeFDs([]int{w})
	kept := 0
	for {
		f := <-e.facts
		if f.Kind == Lost {
			if !strings.Contains(f.Text, "more than 256 messages") && kept > maxRate {
				t.Errorf("lost: %s", f.Text)
			}
			break
		}
		kept++
		closeFDs([]int{f.FD})
	}
	p.Close()
	if kept > 2*maxRate {
		t.Errorf("%d were taken", kept)
	}
	wantClosed(t, r)
}

// A worker that fetches and does not read what it gets costs its connection,
// and no descriptor.
func TestAStormOfFetches(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateActive)
	e.want(Ready)
	r, w := pipe(t)
	var failed error
	for seq := uint64(1); failed == nil && seq < 100*maxQueue; seq++ {
		failed = e.Blob(seq, ipc.Blob{Name: "list", Size: 4}, w)
	}
	if failed == nil {
		t.Error("answers without end are queued")
	}
	closeFDs([]int{w})
	e.want(Lost)
	p.Close()
	wantClosed(t, r)
}

// Once a session is forgotten, what still comes is closed.
func TestWishesOfTheForgotten(t *testing.T) {
	h := newHouse(t)
	asked, proceed := make(chan struct{}), make(chan struct{})
	ex := expectation(nil)
	ex.Fact = func(f Fact) {
		if f.Kind == Fetch {
			close(asked)
			<-proceed
		}
		if f.Kind == Keep {
			t.Error("told of a keep")
			closeFDs([]int{f.FD})
		}
	}
	s := h.hub.Expect(ex)
	s.SetPID(os.Getpid())
	p := h.dial()
	p.say((&expected{s, t, ex, nil}).hello(ipc.StateNew))
	p.hear(ipc.TypeWelcome)
	r, w := pipe(t)
	p.say(ipc.Message{Type: ipc.TypeFetch, Seq: 1, Blob: &ipc.Blob{Name: "list"}})
	<-asked
	if err := p.Send(keepMessage(2), w); err != nil {
		t.Fatal(err)
	}
	closeFDs([]int{w})
	h.hub.Forget(testWorker)
	close(proceed)
	wantClosed(t, r)
}
