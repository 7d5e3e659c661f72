package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// unanswered is a file of a file system whose server, a process of its own, answers no
// request of one kind. Whoever makes it waits, and no signal ends that.
func unanswered(silent string) int {
	ready, w, err := os.Pipe()
	check(err)
	cmd := exec.Command("/proc/self/exe", "serves-files", os.Args[2], silent)
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	check(cmd.Start())
	_, err = ready.Read(make([]byte, 1))
	check(err)
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, fuseFile), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	check(err)
	return fd
}

// fuseFile is what the file system lies over, for its server's process alone. It is one
// file.
const fuseFile = "/dev/zero"

// The kernel's requests, of fuse(4).
const (
	fuseOpen    = 14
	fuseInit    = 26
	fuseRequest = 40 // bytes of its header
)

// serveFiles is the server. It must not open the file: it could not be killed then.
func serveFiles(silent string) {
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	check(err)
	check(unix.Mount("hostile", fuseFile, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=100600,user_id=%d,group_id=%d", dev, os.Getuid(), os.Getgid())))
	fmt.Println("serves")
	request := make([]byte, 1<<20)
	for {
		n, err := unix.Read(dev, request)
		check(err)
		answer := make([]byte, 16, 80)
		copy(answer[8:], request[8:16]) // which it answers
		switch code := binary.NativeEndian.Uint32(request[4:]); {
		case n < fuseRequest || fmt.Sprint(code) == silent:
			continue
		case code == fuseInit:
			answer = answer[:80]
			binary.NativeEndian.PutUint32(answer[16:], 7)
			binary.NativeEndian.PutUint32(answer[20:], 31)
			binary.NativeEndian.PutUint32(answer[36:], 1<<12) // of a write
		case code == fuseOpen:
			answer = answer[:32]
		default:
			binary.NativeEndian.PutUint32(answer[4:], ^uint32(unix.ENOSYS)+1)
		}
		binary.NativeEndian.PutUint32(answer, uint32(len(answer)))
		_, err = unix.Write(dev, answer)
		check(err)
	}
}
