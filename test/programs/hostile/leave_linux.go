package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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
