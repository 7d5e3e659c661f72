// hostile is a worker as nobody wants one. It is started as
//
//	hostile WAY ADDRESS [SIDE ADDRESS]
//
// and serves HTTP on ADDRESS, or on descriptor 3 if there is one for it, but for
// what its way has it do. RELEASE of its environment is what it answers.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	way, address := os.Args[1], os.Args[2]
	if os.Getenv("ERASES") != "" {
		eraseEnviron()
	}
	switch way {
	case "never-binds":
		select {}
	case "bombs-again":
		bomb()
	case "wrong-port":
		address = os.Args[3]
	case "needs": // what may be away: its database, say
		if _, err := os.Stat(os.Args[3]); err != nil {
			log.Fatal("it cannot reach what it needs")
		}
	case "exits":
		log.Fatal("the configuration is missing")
	case "side-port":
		l, err := net.Listen("tcp", os.Args[3])
		check(err)
		defer l.Close()
	case "forks":
		fork("serves", address)
		select {}
	case "forks-and-exits":
		fork("serves", address)
		time.Sleep(after)
		os.Exit(0)
	case "daemons": // outside of the group, for ever
		cmd := exec.Command("/proc/self/exe", "never-binds", address)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		check(cmd.Start())
	case "leaves-daemon", "leaves-bare-daemon": // with its socket, and is done
		leaveDaemon(way, listener(address))
		os.Exit(0)
	case "daemon-between":
		cmd := exec.Command("/proc/self/exe", "serves", address)
		cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{os.NewFile(3, "listener")}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		check(cmd.Start())
		os.Exit(0)
	case "sdk":
		speak(os.Args[3])
	case "poses":
		pose(address)
		return
	case "hangs-control":
		hangControl()
		select {}
	case "terminal": // tells whether it has one
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err == nil {
			_ = tty.Close()
		}
		check(os.Setenv("RELEASE", fmt.Sprintf("terminal: %v", err)))
	case "alternates": // between two main processes
		pid := fork("never-binds", address)
		for range 1000 {
			notify("MAINPID=" + pid)
			notify(fmt.Sprintf("MAINPID=%d", os.Getpid()))
		}
	case "hands-on", "hands-on-again": // its place, to a process that does the same
		next := map[string]string{"hands-on": "hands-on-again", "hands-on-again": "ready"}[way]
		for way == "hands-on-again" && os.Getenv("PARENT") == fmt.Sprint(os.Getppid()) {
			time.Sleep(time.Millisecond) // until it has ended, nobody else may speak
		}
		notify("MAINPID=" + fork(next, address))
		barrier()
		os.Exit(0)
	case "main":
		notify("MAINPID=" + fork("ready", address))
		select {} // until it is killed with the other
	}
	if way == "asks-first" { // whether it listens already, as HAProxy does
		asksFirst(address)
	}
	if way == "waits" { // in accept, as a program may whose sockets are systemd's
		waits()
	}
	if way == "left" {
		for !refused() {
			time.Sleep(time.Millisecond)
		}
	}
	l := listener(address)
	fd := number(l)
	switch way {
	case "daemonizes": // in a session of its own and not its leader, with the socket
		leaves("left", l)
		os.Exit(0)
	case "daemonizes-attacks":
		leaves("attacks", l)
		os.Exit(0)
	case "leads":
		leaves(os.Args[3], l)
		os.Exit(0)
	case "attacks-after":
		awaitLost(fd)
		attack(fd)
	case "attacks":
		attack(fd)
	case "storms":
		storm(l)
	case "storms-later":
		go stormLater(l)
	case "spoils":
		spoil(fd, os.Args[3])
	}
	notify("READY=1\nSTATUS=serves as " + way)
	switch way {
	case "binds-only":
		select {}
	case "crashes":
		log.Fatal("it cannot read its database")
	case "floods":
		go func() {
			for {
				notify("STATUS=" + strings.Repeat("x", 4000))
				notify("WATCHDOG=1\nWHAT=ever")
				notify(strings.Repeat("y", 100_000))
				notify("no assignment")
			}
		}()
	case "binds":
		go func() {
			for i := 0; ; i++ {
				if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
					_ = l.Close()
				}
				if i == 100 {
					turned()
				}
			}
		}()
	case "shuts-down":
		time.AfterFunc(after, func() { check(unix.Shutdown(fd, unix.SHUT_RDWR)); turned() })
	case "closes":
		time.AfterFunc(after, func() { _ = l.Close(); turned() })
	case "backlog":
		check(unix.Listen(fd, 1))
		turned()
	case "blocks":
		check(unix.SetNonblock(fd, false))
		turned()
	case "daemons": // it was started above
		turned()
	case "unlinks":
		time.AfterFunc(after, func() { check(os.Remove(address)); turned() })
	case "feeds":
		go feed(time.Now().Add(after))
	case "triggers": // its watchdog, after a while, and does not end of ABRT
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGABRT)
		go func() { <-asked; log.Print("asked for its stacks") }()
		time.AfterFunc(after, func() { notify("WATCHDOG=trigger") })
	case "hangs": // whoever closes what it says
		for _, text := range os.Args[3:] {
			if fd := hanging(); !say(text, fd) {
				break // nobody reads it
			}
		}
		log.Print("has turned")
	case "bombs":
		time.AfterFunc(after, func() {
			for range 3 { // which go on when this one, or one of them, has no thread left itself
				fork("bombs-again", address)
			}
		})
	case "takes-space":
		time.AfterFunc(after, takeSpace)
	case "stores":
		fd, err := unix.MemfdCreate("legacy", unix.MFD_CLOEXEC)
		check(err)
		store(os.NewFile(uintptr(fd), "legacy"))
	}
	check(serve(l))
}

// asksFirst binds, asks whether the socket listens, and listens if it does not: after
// a while, so that it can be seen to be waited for.
func asksFirst(address string) {
	at, err := netip.ParseAddrPort(address)
	check(err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}))
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n != 0 {
		log.Fatalf("before listen it is said to listen: %d, %v", n, err)
	}
	time.Sleep(after)
	check(unix.Listen(fd, 16))
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n != 1 {
		log.Fatalf("after listen it is said not to listen: %d, %v", n, err)
	}
	l, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
	check(err)
	check(serve(l))
}

// waits serves on descriptor 3 as it is.
func waits() {
	notify("READY=1\nSTATUS=serves as waits")
	for {
		fd, _, err := unix.Accept4(3, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		check(err)
		go func() {
			f := os.NewFile(uintptr(fd), "client")
			c, err := net.FileConn(f) // a duplicate
			_ = f.Close()
			check(err)
			defer c.Close()
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			release := os.Getenv("RELEASE")
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nX-Worker-Version: %s\r\nContent-Length: %d\r\n\r\n%s\n", release, len(release)+1, release)
		}()
	}
}

// after is when a worker that has served for a while turns.
const after = 300 * time.Millisecond

// turned says that it has done what its way has it do.
func turned() { notify("STATUS=has turned") }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func serve(l net.Listener) error {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/environ":
			fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
			return
		case "/status":
			text, _ := os.ReadFile("/proc/self/status")
			_, _ = w.Write(text)
			return
		case "/steal":
			fmt.Fprintln(w, steal())
			return
		}
		w.Header().Set("X-Worker-Version", os.Getenv("RELEASE"))
		fmt.Fprintf(w, "%s %d\n", os.Getenv("RELEASE"), os.Getpid())
	})}
	if err := s.Serve(l); err != nil {
		log.Print(err)
	}
	select {} // whatever happens to its socket, it stays
}

func listener(address string) net.Listener {
	if activated() {
		l, err := net.FileListener(os.NewFile(3, "listener"))
		check(err)
		return l
	}
	c := net.ListenConfig{}
	l, err := c.Listen(context.Background(), "tcp", address)
	check(err)
	return l
}

func number(l net.Listener) (n int) {
	raw, err := l.(syscall.Conn).SyscallConn()
	check(err)
	check(raw.Control(func(fd uintptr) { n = int(fd) }))
	return n
}

// fork starts the same program in another way, in this one's group.
func fork(way, address string) (pid string) {
	cmd := exec.Command("/proc/self/exe", way, address)
	cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, append(os.Environ(), fmt.Sprintf("PARENT=%d", os.Getpid()))
	if activated() {
		f := os.NewFile(3, "listener")
		cmd.ExtraFiles = []*os.File{f}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: os.Getenv("OWN_GROUP") != ""}
	check(cmd.Start())
	for os.Getenv("ERASES") != "" { // it is known only once it has done that
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
		if check(err); len(env) > 0 && env[0] == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Sprint(cmd.Process.Pid)
}

// leaveDaemon has a process serve l whose parent, and whose parent's parent, have ended.
func leaveDaemon(way string, l net.Listener) {
	f, err := l.(interface{ File() (*os.File, error) }).File()
	check(err)
	cmd := exec.Command("/proc/self/exe", "daemon-between", os.Args[2])
	cmd.Env = append(os.Environ(), "LISTEN_FDNAMES=http")
	if way == "leaves-bare-daemon" {
		cmd.Env = []string{"LISTEN_FDNAMES=http", "RELEASE=" + os.Getenv("RELEASE")}
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = os.Stdout, os.Stderr, []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	check(cmd.Run())
}

func notify(text string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.Dial("unixgram", path)
	if err != nil {
		log.Print(err)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, text)
}

// feed its watchdog until it forgets to.
func feed(until time.Time) {
	for time.Now().Before(until) {
		notify("WATCHDOG=1")
		time.Sleep(20 * time.Millisecond)
	}
}

// store has a descriptor kept, with a name, and waits until that is done.
func store(f *os.File) {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(c)
	check(unix.Sendmsg(c, []byte("FDSTORE=1\nFDNAME=legacy"), unix.UnixRights(int(f.Fd())), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0))
	barrier()
}

// barrier waits until all that was said by sd_notify is done.
func barrier() {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	check(err)
	defer unix.Close(c)
	r, w, err := os.Pipe()
	check(err)
	check(unix.Sendmsg(c, []byte("BARRIER=1"), unix.UnixRights(int(w.Fd())), &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0))
	_ = w.Close()
	_, _ = r.Read(make([]byte, 1)) // the end of it
}

// leaves starts the program twice removed, with the socket, in another way. Whoever
// looks for it by sessions, by what it was started with, or by who started it does not
// find it. It notes the number of what is left in the file LEFT, for the test that looks
// at it and ends it.
func leaves(way string, l net.Listener) {
	raw, err := l.(syscall.Conn).SyscallConn()
	check(err)
	cmd := exec.Command("/proc/self/exe", "leads", os.Args[2], way)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Env = append(os.Environ(), "GIVEN=1")
	start := cmd.Run // it is gone when this one ends
	if os.Args[1] == "leads" {
		cmd = exec.Command("/proc/self/exe", way, os.Args[2])
		cmd.Env = []string{"GIVEN=1", "RELEASE=" + os.Getenv("RELEASE"), "LEFT=" + os.Getenv("LEFT")}
		start = cmd.Start
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	check(raw.Control(func(fd uintptr) {
		n, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
		check(err)
		cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(n), "listener")}
		check(start())
	}))
	if os.Args[1] == "leads" {
		note("", cmd.Process.Pid)
	}
}

// note adds a line to the file LEFT, or to one beside it.
func note(suffix string, line any) {
	f, err := os.OpenFile(os.Getenv("LEFT")+suffix, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	check(err)
	fmt.Fprintln(f, line)
	check(f.Close())
}

// refused tells that the version has been refused: what is left of it passes no check for
// it before.
func refused() bool {
	_, err := os.Stat(os.Getenv("LEFT") + "." + os.Getenv("RELEASE"))
	return err == nil
}

// attack does to the group of a socket what can be done by it, and takes what comes. It
// notes in the file LEFT.over that its socket cannot listen any more: another user has it,
// or nobody answers its calls.
func attack(fd int) {
	first := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	over := false
	for i := 0; ; i++ {
		on, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		switch {
		case on == 0 || i%7 == 0:
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
			if err := unix.Listen(fd, 100); (err == unix.EADDRINUSE || err == unix.ENOSYS) && !over {
				over = true
				note(".over", os.Getpid())
			}
		case i%2 == 0:
			_ = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: 1, Filter: &first[0]})
		default:
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
		}
		for {
			c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			code := map[bool]int{false: 500, true: 200}[refused()]
			_, _ = unix.Write(c, fmt.Appendf(nil, "HTTP/1.1 %d Stolen\r\nX-Worker-Version: stolen\r\nContent-Length: 7\r\nConnection: close\r\n\r\nstolen ", code))
			_ = unix.Close(c)
		}
		time.Sleep(time.Millisecond)
	}
}

// activated: the first descriptor is its listener's, and not one that was stored.
func activated() bool {
	return os.Getenv("GIVEN") != "" || strings.HasPrefix(os.Getenv("LISTEN_FDNAMES"), "http")
}

// eraseEnviron writes over what /proc shows of the environment, as programs do that set
// their title.
func eraseEnviron() {
	text, err := os.ReadFile("/proc/self/stat")
	check(err)
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])) // from the third on
	begin, err := strconv.ParseInt(fields[50-3], 10, 64)
	check(err)
	end, err := strconv.ParseInt(fields[51-3], 10, 64)
	check(err)
	f, err := os.OpenFile("/proc/self/mem", os.O_WRONLY, 0)
	check(err)
	_, err = f.WriteAt(make([]byte, end-begin), begin)
	check(err)
	check(f.Close())
}
