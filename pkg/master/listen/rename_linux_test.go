package listen

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// onPort is a listener on a port of its own choice.
func onPort(t *testing.T, name string) config.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := tcp(name, "127.0.0.1")
	c.Port = l.Addr().(*net.TCPAddr).Port
	c.Address = "tcp://127.0.0.1:" + strconv.Itoa(c.Port)
	return c
}

// Two listeners change their names with each other: they stay what they are, each
// generation reaches them by its own names, and so does the next master.
func TestListenersChangeTheirNames(t *testing.T) {
	s := keepertest.New(t)
	web, admin := onPort(t, "web"), onPort(t, "admin")
	atWeb, atAdmin := "127.0.0.1:"+strconv.Itoa(web.Port), "127.0.0.1:"+strconv.Itoa(admin.Port)
	w := mustHold(t, s, 4, web, admin)
	inode := func(k *world, at string) uint64 {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, l := range k.listeners {
			if l.at() == at {
				return l.sockets[l.own()].inode
			}
		}
		t.Fatalf("nobody listens on %s", at)
		return 0
	}
	was := inode(w, atWeb)
	w.Name(0, []config.Listener{web, admin})
	files, err := w.Man(0, []string{"web"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	closeFD(files[0].FD)

	swapped, other := admin, web
	swapped.Name, other.Name = "web", "admin"
	if err := w.Add([]config.Listener{swapped, other}); err != nil {
		t.Fatal(err)
	}
	if inode(w, atWeb) != was || len(w.Status()) != 2 {
		t.Errorf("%+v", w.Status())
	}
	check := func(k *world, slot int, ls []config.Listener, name, at string, generation uint64) {
		t.Helper()
		k.Name(slot, ls)
		places, err := k.Places(slot, []string{name})
		if err != nil || places[0].At.String() != at {
			t.Errorf("%s is %v for slot %d, %v", name, places, slot, err)
		}
		files, err := k.Man(slot, []string{name}, generation)
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(files[0].FD)
		if got, err := steer.Address(files[0].FD); err != nil || got.String() != at || files[0].Name != name {
			t.Errorf("slot %d gets %s as %s, %v", slot, got, files[0].Name, err)
		}
	}
	check(w, 0, []config.Listener{web, admin}, "web", atWeb, 1)
	check(w, 1, []config.Listener{swapped, other}, "web", atAdmin, 2)
	check(w, 1, []config.Listener{swapped, other}, "admin", atWeb, 2)
	held := s.Names()
	if len(held) != 10 {
		t.Errorf("held: %v", held)
	}
	for _, l := range w.Status() {
		if l.Name == "web" && !strings.HasSuffix(l.Address, strconv.Itoa(admin.Port)) {
			t.Errorf("%+v", l)
		}
	}
	if err := w.Leave(); err != nil {
		t.Fatal(err)
	}

	next := mustHold(t, s, 4, swapped, other)
	if inode(next, atWeb) != was {
		t.Error("the next master has another socket")
	}
	check(next, 0, []config.Listener{web, admin}, "web", atWeb, 1)
	check(next, 1, []config.Listener{swapped, other}, "web", atAdmin, 2)
	if got := s.Names(); len(got) != 10 {
		t.Errorf("held: %v", got)
	}
	next.Retain([]config.Listener{swapped})
	if got := s.Names(); len(got) != 5 {
		t.Errorf("held: %v", got)
	}
	if c, err := net.Dial("tcp", atWeb); err == nil {
		c.Close()
		t.Error("a listener that is not needed is open")
	}
}

// A Unix listener is its path.
func TestUnixListenerIsRenamed(t *testing.T) {
	s := keepertest.New(t)
	conf := onPath("http", t.TempDir()+"/s")
	w := mustHold(t, s, 4, conf)
	w.man(0, "http")
	w.steer(Share{Slot: 0, Weight: 1})
	renamed := conf
	renamed.Name = "web"
	if err := w.Add([]config.Listener{renamed}); err != nil {
		t.Fatal(err)
	}
	if got := count(t, "unix", conf.Path, 5); got["0"] != 5 {
		t.Error(got)
	}
	if err := w.Leave(); err != nil {
		t.Fatal(err)
	}
	next := mustHold(t, s, 4, renamed)
	if err := next.Assigned(0, []string{"web"}, 1); err != nil {
		t.Fatal(err)
	}
	next.steer(Share{Slot: 0, Weight: 1})
	if got := count(t, "unix", conf.Path, 5); got["0"] != 5 {
		t.Error(got)
	}
	if got := s.Names(); len(got) != 5 {
		t.Errorf("held: %v", got)
	}
}
