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
		stay()
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
	case "side-port-shared": // with any version that runs
		c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { check(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)) })
		}}
		for range 3 { // as threads do
			l, err := c.Listen(context.Background(), "tcp", os.Args[3])
			check(err)
			defer l.Close()
		}
	case "side-paths": // makes them, whoever had them, and removes them when it is asked to end
		sidePaths(os.Args[3], os.Args[4])
	case "runs-itself": // by its path, once a file is there
		go runItself(os.Args[3])
	case "forks":
		fork("serves", address)
		stay()
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
		stay()
	case "serves-files":
		serveFiles(os.Args[3])
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
		stay() // until it is killed with the other
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
		stay()
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
	case "hangs-in-file": // whoever makes one request of its file system
		switch fd := unanswered(os.Args[3]); os.Args[4] {
		case "bind":
			go unix.Bind(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}})
		default:
			say(os.Args[4], fd)
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
	serve(l)
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
	serve(l)
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

func serve(l net.Listener) {
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
	stay() // whatever happens to its socket
}

// stay waits for ever. Nothing but sleep does in a program that was built without cgo: the
// runtime ends one of which all goroutines wait.
func stay() {
	for {
		time.Sleep(time.Hour)
	}
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
