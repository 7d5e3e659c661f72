package keeper

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

// Keepers, masters and guarded programs of the tests are this binary.
func TestMain(m *testing.M) {
	Main(nil)
	switch play := os.Getenv("KEEPER_TEST"); play {
	case "":
		os.Exit(m.Run())
	case "master":
		asMaster(os.Args[1])
	case "old": // what a guard starts says how it was started
		dir, _ := os.Getwd()
		fmt.Printf("old %s in %s as %q\n", os.Getenv("WORD"), dir, os.Args)
	case "hang": // takes over, loses its connection, and hangs
		c, err := Join(Options{Path: os.Args[1]})
		if err != nil {
			panic(err)
		}
		c.Leave()
		select {}
	}
}

// dir is a short one: a socket's path is.
func dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "k-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(d) })
	return d
}

func join(t testing.TB, path string, ready func() bool) (*Registry, []Held) {
	t.Helper()
	r, err := Join(Options{Path: path, Ready: ready})
	if err != nil {
		t.Fatal(err)
	}
	return r, r.Take("")
}

// ends ends a keeper and sees that nothing is left of it.
func ends(t testing.TB, c *Registry, path string) {
	t.Helper()
	pid := c.PID()
	if err := c.End(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
	if !gone(pid) {
		t.Errorf("keeper %d lives", pid)
	}
}

// gone: also one that somebody else has to wait for.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(b), ") ")
	return err != nil || strings.HasPrefix(state, "Z")
}

func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

func put(t testing.TB, c *Registry, name, meta string, fd int) {
	t.Helper()
	if err := c.put(name, []byte(meta), fd); err != nil {
		t.Fatal(err)
	}
}

// text is a file with that content.
func text(t testing.TB, content string) int {
	t.Helper()
	fd, err := unix.MemfdCreate("text", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if _, err := unix.Write(fd, []byte(content)); err != nil {
		t.Fatal(err)
	}
	return fd
}

func contents(t testing.TB, held []Held) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, h := range held {
		b := make([]byte, 100)
		n, err := unix.Pread(h.FD, b, 0)
		if err != nil {
			t.Error(err)
		}
		all[h.Name] = string(h.Meta) + ":" + string(b[:n])
		unix.Close(h.FD)
	}
	return all
}

func TestWhatIsPutIsGivenToTheNext(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, held := join(t, path, nil)
	if len(held) != 0 {
		t.Error(held)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "slot", "s", int(f.Fd()))
	put(t, c, "a", "1", text(t, "one"))
	put(t, c, "b", "2", text(t, "two"))
	put(t, c, "a", "3", text(t, "three"))
	if err := c.drop("b"); err != nil {
		t.Fatal(err)
	}
	pid := c.PID()
	c.Leave()
	if err := c.put("late", nil, 0); !errors.Is(err, ErrLeft) {
		t.Error(err)
	}
	f.Close()
	l.Close()
	waits, err := net.Dial("tcp", l.Addr().String()) // nobody but the keeper has the socket
	if err != nil {
		t.Fatal(err)
	}
	defer waits.Close()

	next, held := join(t, path, nil)
	if next.PID() != pid {
		t.Errorf("keeper %d was there, %d answers", pid, next.PID())
	}
	at := slices.IndexFunc(held, func(h Held) bool { return h.Name == "slot" })
	if at < 0 {
		t.Fatalf("%+v", held)
	}
	slot := os.NewFile(uintptr(held[at].FD), "slot")
	held = slices.Delete(held, at, at+1)
	if flags, err := unix.FcntlInt(slot.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v", flags, err)
	}
	goes, err := net.FileListener(slot)
	slot.Close()
	if err != nil {
		t.Fatal(err)
	}
	if c, err := goes.Accept(); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
	goes.Close()
	if got := contents(t, held); len(got) != 1 || got["a"] != "3:three" {
		t.Error(got)
	}
	ends(t, next, path)
}

// asMaster puts n things, says so, and never ends by itself.
func asMaster(path string) {
	c, err := Join(Options{Path: path})
	if err != nil {
		panic(err)
	}
	fd, err := unix.MemfdCreate("text", unix.MFD_CLOEXEC)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		if err := c.put("n"+strconv.Itoa(i), nil, fd); err != nil {
			panic(err)
		}
		fmt.Println(i)
	}
}

// What a master's Put has returned from is held, however the master ends.
func TestMasterIsKilled(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = []string{"KEEPER_TEST=master"}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if last == 1000 {
			cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
	c, held := join(t, path, nil)
	all := map[string]bool{}
	for _, h := range held {
		all[h.Name] = true
		unix.Close(h.FD)
	}
	for i := range last + 1 {
		if !all["n"+strconv.Itoa(i)] {
			t.Fatalf("of %d that were put, %d is not held", last+1, i)
		}
	}
	ends(t, c, path)
}

// A keeper that dies, or that is stopped, is replaced and given everything.
func TestKeeperIsReplaced(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir(t), "keeper.sock")
			fd := text(t, "x")
			refilled := make(chan struct{}, 10)
			c, _ := join(t, path, func() bool {
				refilled <- struct{}{}
				return true
			})
			first := c.PID()
			put(t, c, "before", "", fd)
			put(t, c, "again", "1", fd)
			put(t, c, "again", "2", fd)
			put(t, c, "gone", "", fd)
			if err := c.drop("gone"); err != nil {
				t.Fatal(err)
			}
			if err := unix.Kill(first, sig); err != nil {
				t.Fatal(err)
			}
			// one that is stopped is noticed when it takes no more
			for n := 0; n == 0 || len(refilled) == 0 && n < 100_000; n++ {
				put(t, c, "meanwhile", "", fd)
				if sig == syscall.SIGKILL {
					time.Sleep(time.Millisecond)
				}
			}
			<-refilled
			if c.PID() == first || c.PID() == 0 {
				t.Errorf("keeper %d, and then %d", first, c.PID())
			}
			c.Leave()
			next, held := join(t, path, nil)
			if got, want := contents(t, held), map[string]string{"before": ":x", "again": "2:x", "meanwhile": ":x"}; !maps.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
			ends(t, next, path)
		})
	}
}

// A keeper that is not to be had when a master starts is had when it can be, and then
// given everything. Nobody waits for it who leaves before.
func TestThereIsNoKeeperAtFirst(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		path := filepath.Join(dir(t), "keeper.sock")
		if err := os.Mkdir(path, 0o700); err != nil { // in the way
			t.Fatal(err)
		}
		fd := text(t, "x")
		refilled := make(chan struct{}, 10)
		c, held := join(t, path, func() bool {
			refilled <- struct{}{}
			return true
		})
		if len(held) > 0 || c.PID() != 0 {
			t.Fatalf("keeper %d holds %v", c.PID(), held)
		}
		put(t, c, "meanwhile", "", fd)
		if err := c.Guard(Guard{}); err == nil {
			t.Error("a guard without a keeper")
		}
		if leaves {
			c.Leave()
			continue
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		<-refilled
		c.Leave()
		next, held := join(t, path, nil)
		if got, want := contents(t, held), map[string]string{"meanwhile": ":x"}; !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		ends(t, next, path)
	}
}

func TestTheNewestIsTheMaster(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	first, _ := join(t, path, nil)
	put(t, first, "a", "", text(t, "1"))
	second, held := join(t, path, nil)
	if got := contents(t, held); got["a"] != ":1" {
		t.Error(got)
	}
	eventually(t, "the first is told", func() bool { return errors.Is(first.put("b", nil, 0), ErrReplaced) })
	first.Leave()
	ends(t, second, path)
}

func TestMany(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, _ := join(t, path, nil)
	fd := text(t, "x")
	const n = 3000
	for i := range n {
		put(t, c, "n"+strconv.Itoa(i), strings.Repeat("m", 200), fd)
	}
	c.Leave()
	next, held := join(t, path, nil)
	if len(held) != n {
		t.Errorf("%d are held", len(held))
	}
	for _, h := range held {
		unix.Close(h.FD)
	}
	t.Logf("PSS of a keeper that holds %d: %d KiB", n, pss(t, next.PID()))
	ends(t, next, path)
}

// A keeper is small: it is there for as long as the service is.
func TestKeeperIsSmall(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, _ := join(t, path, nil)
	for i := range 70 {
		put(t, c, "n"+strconv.Itoa(i), "", text(t, "x"))
	}
	got := pss(t, c.PID())
	t.Logf("PSS of a keeper that holds 70: %d KiB", got)
	if got > 24<<10 { // the race detector alone takes 14 MiB
		t.Errorf("%d KiB", got)
	}
	ends(t, c, path)
}

func pss(t testing.TB, pid int) (kib int) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Fatal("no Pss")
	return 0
}

// TERM ends a keeper without a master, and none that has one.
func TestTerm(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, _ := join(t, path, nil)
	pid := c.PID()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT} {
		if err := unix.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Unguard(); err != nil {
		t.Error("it does not answer:", err)
	}
	k := c.link
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c.Leave()
	eventually(t, "it ends", func() bool {
		_ = unix.Kill(pid, unix.SIGTERM)
		k.reap()
		return unix.Kill(pid, 0) == unix.ESRCH
	})
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// What is no frame, or no join, costs who sent it its connection and nobody
// anything else.
func TestNonsense(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, _ := join(t, path, nil)
	put(t, c, "a", "", text(t, "1"))
	long := make([]byte, maxFrame+100)
	for _, b := range [][]byte{{0}, {1, 0, 0, 0, 0}, {2, 0, 1, 0, 0, 'x'}, {1, 255, 255, 255, 255}, long, frame{kind: kindEnd}.encode(), frame{kind: 99}.encode()} {
		n, err := net.Dial("unixpacket", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Write(b); err != nil {
			t.Error(err)
		}
		n.SetReadDeadline(time.Now().Add(patience))
		if _, err := n.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%.10q: %v", b, err)
		}
		n.Close()
	}
	// From the master: it joins again, and nothing is lost but the nonsense.
	k := c.link
	if err := k.Send(patience, []byte{2, 0}); err != nil {
		t.Error(err)
	}
	c.Leave()
	next, held := join(t, path, nil)
	if got := contents(t, held); got["a"] != ":1" {
		t.Error(got)
	}
	ends(t, next, path)
}

// A master that has lost its connection for a moment gives the keeper everything
// anew, and has it drop the rest; one that ends meanwhile has it drop nothing.
func TestConnectionIsLostForAMoment(t *testing.T) {
	for _, ends := range []bool{false, true} {
		path := filepath.Join(dir(t), "keeper.sock")
		lost, known := make(chan struct{}), make(chan struct{})
		c, _ := join(t, path, func() bool {
			close(lost)
			<-known
			return !ends
		})
		put(t, c, "stays", "", text(t, "old"))
		put(t, c, "goes", "", text(t, "old"))
		if err := c.link.Close(); err != nil {
			t.Fatal(err)
		}
		<-lost
		c.telling.Lock() // what is put and dropped while there is no connection
		c.entries["stays"] = entry{nil, text(t, "new")}
		delete(c.entries, "goes")
		c.telling.Unlock()
		close(known)
		c.Leave()
		next, held := join(t, path, nil)
		got := contents(t, held)
		if want := map[string]string{"stays": ":new"}; !ends && !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if want := map[string]string{"stays": ":old", "goes": ":old"}; ends && !maps.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if err := next.End(); err != nil {
			t.Error(err)
		}
	}
}

// A Put without a descriptor that is one fails, and the connection goes on.
func TestPutOfNothing(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, _ := join(t, path, nil)
	pid := c.PID()
	for name, err := range map[string]error{
		"closed":   c.put("a", nil, 9999),
		"no name":  c.put("", nil, 0),
		"long":     c.put(strings.Repeat("n", MaxName+1), nil, 0),
		"too much": c.put("a", make([]byte, MaxMeta+1), 0),
	} {
		if err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	put(t, c, strings.Repeat("n", MaxName), strings.Repeat("m", MaxMeta), 0)
	if c.PID() != pid {
		t.Error("the keeper is another one")
	}
	ends(t, c, path)
}

// guarded is a process that stands for a master after its exec: it has joined,
// and lives on without a connection.
func guarded(t *testing.T, path string, within time.Duration) (c *Registry, out *os.File, pid int) {
	t.Helper()
	program, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	t.Cleanup(func() { r.Close() })
	c, _ = join(t, path, nil)
	err = c.Guard(Guard{
		Program: program, Args: []string{"old", "arg"}, Env: []string{"KEEPER_TEST=old", "WORD=\xff"}, Dir: "/", Stderr: w,
		For: time.Minute, JoinWithin: within,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c, r, c.PID()
}

// said reads what the guard's program and the keeper say, until all have closed it.
func said(t *testing.T, out *os.File) string {
	t.Helper()
	out.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(out)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	return string(b)
}

// forge joins as another process would: the keeper takes the pid of that for the
// master's.
func forge(t *testing.T, path, play string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = []string{"KEEPER_TEST=" + play}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd
}

// The guard's program is started when the next master dies, with all it needs.
func TestGuardStartsTheOldOne(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, out, keeper := guarded(t, path, time.Minute)
	next := forge(t, path, "master") // has taken over, and dies
	eventually(t, "it has joined", func() bool { return errors.Is(c.put("x", nil, 0), ErrReplaced) })
	c.Leave()
	next.Process.Kill()
	next.Wait()
	heard(t, out, "has died before it joined the keeper", "was started as process", "old \xff in / as [\"old\" \"arg\"]")
	last, held := join(t, path, nil)
	for _, h := range held {
		unix.Close(h.FD)
	}
	if last.PID() != keeper {
		t.Error("the keeper is another one")
	}
	ends(t, last, path)
}

// Nobody is started when somebody joins in time, or when the guard was ended.
func TestGuardStandsBy(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, path string) *Registry{
		"joined":    func(t *testing.T, path string) *Registry { c, _ := join(t, path, nil); return c },
		"unguarded": nil,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir(t), "keeper.sock")
			c, out, _ := guarded(t, path, 10*time.Second)
			if end == nil {
				if err := c.Unguard(); err != nil {
					t.Fatal(err)
				}
				c.Leave() // this process lives and does not join
			} else {
				c.Leave()
				c = end(t, path)
				if err := c.Unguard(); err != nil {
					t.Fatal(err)
				}
				c.Leave()
			}
			c, _ = join(t, path, nil)
			ends(t, c, path)
			if got := said(t, out); got != "" { // the keeper's end closes it
				t.Errorf("%q", got)
			}
		})
	}
}

// A next master that lives and does not join is killed for the old one.
func TestGuardKillsWhoHangs(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	c, out, _ := guarded(t, path, 50*time.Millisecond)
	next := forge(t, path, "hang")
	eventually(t, "it has joined", func() bool { return errors.Is(c.put("x", nil, 0), ErrReplaced) })
	c.Leave()
	heard(t, out, "has not joined the keeper within 50ms and is killed", "old \xff in / as")
	if err := next.Wait(); err == nil {
		t.Error("it ended well")
	}
	last, _ := join(t, path, nil)
	ends(t, last, path)
}

// heard reads until all this was said.
func heard(t *testing.T, out *os.File, words ...string) {
	t.Helper()
	var got bytes.Buffer
	buf := make([]byte, 4096)
	lacks := func(w string) bool { return !strings.Contains(got.String(), w) }
	for slices.ContainsFunc(words, lacks) {
		out.SetReadDeadline(time.Now().Add(patience))
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(buf[:n])
	}
}
