package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// speak is a worker that speaks the control protocol. It answers each check, and does
// something to its listener once it has it.
func speak(what string) {
	f := os.NewFile(inherited(), "control")
	c, err := net.FileConn(f)
	check(err)
	control := c.(*net.UnixConn)
	say := func(m map[string]any) {
		text, err := json.Marshal(m)
		check(err)
		_, err = control.Write(text)
		check(err)
	}
	worker, _ := strconv.Atoi(os.Getenv("MASTERD_WORKER"))
	generation, _ := strconv.Atoi(os.Getenv("MASTERD_GENERATION"))
	say(map[string]any{"type": "hello", "hello": map[string]any{"min": 1, "max": 1, "worker": worker, "generation": generation,
		"secret": os.Getenv("MASTERD_SECRET"), "pid": os.Getpid(), "sdk": "hostile", "state": "new"}})
	say(map[string]any{"type": "ready"})
	go func() {
		for range time.Tick(200 * time.Millisecond) {
			say(map[string]any{"type": "beat", "stats": map[string]any{}})
		}
	}()
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Worker-Version", os.Getenv("RELEASE"))
		fmt.Fprintf(w, "%s %d\n", os.Getenv("RELEASE"), os.Getpid())
	})
	checks := &handed{conns: make(chan net.Conn)}
	checks.until, checks.over = context.WithCancel(context.Background())
	var loops sync.WaitGroup
	server := &http.Server{Handler: answer}
	serve := func(l net.Listener) { loops.Go(func() { log.Print(server.Serve(l)) }) }
	var listening []net.Listener
	serve(checks)
	buf, oob := make([]byte, 1<<16), make([]byte, unix.CmsgSpace(4*253))
	for {
		n, oobn, _, _, err := control.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			os.Exit(0)
		}
		var m struct {
			Type string
			Seq  int
		}
		check(json.Unmarshal(buf[:n], &m))
		var fds []int
		if all, err := unix.ParseSocketControlMessage(oob[:oobn]); err == nil && len(all) > 0 {
			fds, err = unix.ParseUnixRights(&all[0])
			check(err)
		}
		switch m.Type {
		case "conn":
			for _, fd := range fds {
				f := os.NewFile(uintptr(fd), "check")
				c, err := net.FileConn(f)
				check(err)
				_ = f.Close()
				select {
				case checks.conns <- c:
				case <-checks.until.Done():
				}
			}
		case "activate":
			for _, fd := range fds {
				spoil(fd, what)
				l, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
				if err == nil {
					listening = append(listening, l)
					serve(l)
				}
			}
			say(map[string]any{"type": "accepting", "seq": m.Seq})
		case "park":
			say(map[string]any{"type": "parked", "seq": m.Seq})
		case "drain":
			// Shutdown alone may be done before it knows of what was just accepted.
			for _, l := range append(listening, checks) {
				_ = l.Close()
			}
			loops.Wait()
			_ = server.Shutdown(context.Background()) // what was asked is answered
			say(map[string]any{"type": "drained", "seq": m.Seq})
			os.Exit(0)
		}
	}
}

// inherited is the control connection.
func inherited() uintptr {
	c, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.Connect(c, &unix.SockaddrUnix{Name: os.Getenv("MASTERD_CONTROL")}))
	return uintptr(c)
}

// handed are connections that came by message.
type handed struct {
	conns chan net.Conn
	over  context.CancelFunc
	until context.Context
}

func (h *handed) Close() error { h.over(); return nil }
func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.until.Done():
		return nil, net.ErrClosed
	}
}
func (h *handed) Addr() net.Addr { return &net.UnixAddr{} }

// spoil sets an option on a listener by which no client is served any more.
func spoil(fd int, what string) {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	small := []unix.SockFilter{ // the handshake comes in, and nothing that is longer
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: 60, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
	}
	switch what {
	case "ttl":
		check(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MINTTL, 255))
	case "filter":
		check(unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]}))
	case "filter-data":
		check(unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 4, Filter: &small[0]}))
	case "lowat":
		check(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1<<20))
	case "shutdown":
		check(unix.Shutdown(fd, unix.SHUT_RDWR))
	}
}
