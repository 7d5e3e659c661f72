package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// storm does what the other ways do one by one, at one time. What it leaves behind has
// its socket.
func storm(l net.Listener) {
	log.Print("the storm begins")
	signal.Ignore(syscall.SIGTERM) // what it starts does, too
	fd, address := number(l), os.Args[2]
	for _, what := range []string{"ttl", "lowat"} {
		spoil(fd, what)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, 255)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 1)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 120})
	leaves("attacks-after", l)
	other := exec.Command("/bin/sleep", "1000")
	check(other.Start())
	for range 20 {
		notify(fmt.Sprintf("MAINPID=%d", other.Process.Pid))
		notify(fmt.Sprintf("MAINPID=%d", os.Getpid()))
	}
	for _, text := range []string{"FDSTORE=1\nFDNAME=a", "FDSTOREREMOVE=1\nFDNAME=a", "BARRIER=1"} {
		if !say(text, hanging()) {
			break // nobody reads it
		}
	}
	log.Print("has turned")
	for range 3 { // which go on when this one, or one of them, has no thread left itself
		_ = exec.Command("/proc/self/exe", "bombs-again", address).Start()
	}
	go takeSpace() // then it cannot say anything any more
}

// stormLater is a storm that begins when the worker is asked to leave, which it does not.
func stormLater(l net.Listener) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	<-asked
	storm(l)
}

// awaitLost returns once its socket does not listen any more: the master took it away.
func awaitLost(fd int) {
	for {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if check(err); info.State != unix.BPF_TCP_LISTEN {
			return
		}
		time.Sleep(time.Millisecond)
	}
}
