package keeper

import (
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
)

const (
	keeperArgument = "keeper"
	listenFD       = 3
	comm           = "masterd-keeper" // at most 15 bytes
	// lookAlone is how often a keeper without a master looks whether its socket
	// can still be found, and tends what else is alone.
	lookAlone = time.Second
	// spareThreads is how many a keeper has for moments at which it can make none.
	spareThreads = 4
)

// environ of a keeper: small. The heap is a few hundred KiB unless very much is
// held, and then the soft limit gives way.
var environ = []string{"GOGC=25", "GOMEMLIMIT=8MiB", "GOMAXPROCS=1"}

// Main must come first in main, and in TestMain of test programs that join
// keepers. In a process that [Join] has started it never returns: the process is
// the keeper. In any other it returns at once. While there is no master, tend is
// called each second, with the directory that the keeper's socket is in; it must
// not block. Nil: there is nothing to tend.
func Main(tend func(dir string)) {
	if isKeeper() {
		run(tend)
		os.Exit(0)
	}
}

// isKeeper: the arguments could be anybody's, a listening socket as the fourth
// descriptor is not.
func isKeeper() bool {
	n := len(os.Args)
	if n < 3 || os.Args[n-2] != keeperArgument {
		return false
	}
	kind, err := unix.GetsockoptInt(listenFD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return false
	}
	listening, err := unix.GetsockoptInt(listenFD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && listening == 1
}

// run is the keeper's life.
func run(tend func(dir string)) {
	path := os.Args[len(os.Args)-1]
	_ = os.WriteFile("/proc/self/comm", []byte(comm), 0) // its program is "exe"
	lowerOOM()
	proc.SpareThreads(spareThreads)
	// The service manager may signal the whole group. Caught, not ignored: what
	// is ignored stays so in the program that a guard starts.
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR1,
		syscall.SIGUSR2, syscall.SIGPIPE)
	_ = unix.Listen(listenFD, backlog) // once more: the peer credentials are of who did it last
	f := os.NewFile(listenFD, path)
	l, err := net.FileListener(f)
	f.Close()
	socket, ok := l.(*net.UnixListener)
	if err != nil || !ok {
		os.Exit(1)
	}
	mine, k := fdpass.Name(path), newKeeper()
	makeAgain := func() {
		if s := listenAgain(path); s != nil {
			_ = socket.Close()
			socket, mine = s, fdpass.Name(path)
			go k.accept(socket)
		}
	}
	go k.accept(socket) // until it is closed: most often for the process's whole life
	look := time.NewTicker(lookAlone)
	for ended := false; !ended; {
		select {
		case <-k.ended:
			ended = true
		case sig := <-told:
			ended = sig == syscall.SIGTERM && k.alone()
		case <-look.C:
			alone := k.alone()
			switch {
			case !there(path) && there(filepath.Dir(path)):
				makeAgain()
			case alone && !mine.Found(): // a keeper that nobody can find any more is of no use
				ended = true
			}
			if alone && tend != nil {
				tend(filepath.Dir(path))
			}
		}
	}
	if mine.Found() {
		_ = os.Remove(path)
	}
}

// listenAgain makes a keeper's socket anew whose name somebody has removed; nil: it
// cannot now. A master that starts a keeper has the same lock.
func listenAgain(path string) *net.UnixListener {
	unlock, err := lock(filepath.Dir(path))
	if err != nil {
		return nil
	}
	defer unlock()
	if there(path) {
		return nil
	}
	fd, err := listen(path)
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil
	}
	socket, _ := l.(*net.UnixListener)
	return socket
}

// there tells whether something has a path as its name.
func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// ownScore is what it was before lowerOOM, if that has lowered it.
var (
	ownScore int
	lowered  bool
)

// lowerOOM makes the kernel kill anybody else before the keeper, as far as it
// may. The program that a guard starts must not have that, see resetOOM.
func lowerOOM() {
	was, err := process.Score(process.Self)
	if err != nil {
		return
	}
	for score := -1000; score < 0; score += 100 {
		if process.SetScore(process.Self, score) == nil {
			ownScore, lowered = was, true
			return
		}
	}
}

func resetOOM(pid int) {
	if lowered {
		_ = process.SetScore(pid, ownScore)
	}
}
