package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

const (
	// A program that was written a moment ago is "busy" while any process forked
	// at that time has not yet reached its exec (golang/go#22315).
	busyTries = 50
	busyWait  = 4 * time.Millisecond
)

// ShimMain must be the first thing that main, or TestMain, does. In a process
// that [Start] made it never returns: the process becomes the worker's program,
// or says why not and exits. In any other it returns at once.
func ShimMain() {
	n := len(os.Args)
	if n < 3 || os.Args[n-2] != shimArgument {
		return
	}
	talk, err := strconv.Atoi(os.Args[n-1])
	if err != nil || talk < FirstFile {
		return
	}
	// Started by nohup, masterd ignores a hang-up, and ignored is what a program keeps: one
	// that reads its configuration again by it would not. What is handled is not inherited.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	runtime.LockOSThread()
	r := shim{talk}.run()
	r.Fatal = true
	shim{talk}.say(r)
	os.Exit(shimFailed)
}

// shim is the process between the fork and the worker.
type shim struct {
	talk int // the socket to the master
}

// run returns only if the program could not be run.
func (s shim) run() refusal {
	o, err := s.hear()
	if err != nil {
		return refuse(err, "its shim did not understand its order: %v", err)
	}
	// While still what the master is: both may need its privileges, and the
	// files in /proc/self are root's once the user has changed.
	if r, bad := setOOM(o.OOM); bad {
		s.say(r)
	}
	if r, bad := setLimit(o.NoFile); bad {
		return r
	}
	if err := setLimits(o); err != nil {
		return refuse(err, "its limits could not be set (worker.limits): %v", err)
	}
	if o.Filter {
		if r, bad := s.install(); bad {
			return r
		}
	}
	if err := confine(o.Bound); err != nil {
		return refuse(err, "its capabilities could not be taken away: %v", err)
	}
	if r, bad := become(o.Who); bad {
		return r
	}
	if o.NoNew {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return refuse(err, "no_new_privs could not be set: %v", err)
		}
	}
	if dir := string(o.Dir); dir != "" {
		if err := os.Chdir(dir); err != nil {
			return whyNotDir(dir, o.Who, errnoOf(err))
		}
	}
	if err := keepOnly(FirstFile + o.Files); err != nil {
		return refuse(err, "its descriptors could not be put in order: %v", err)
	}
	env := Strings(o.Env)
	if len(o.Listen) > 0 {
		env = append(env,
			"LISTEN_FDS="+strconv.Itoa(len(o.Listen)),
			"LISTEN_PID="+strconv.Itoa(os.Getpid()),
			"LISTEN_FDNAMES="+strings.Join(o.Listen, ":"))
		if id, ok := ownPidfd(); ok {
			env = append(env, "LISTEN_PIDFDID="+strconv.FormatUint(id, 10))
		}
	}
	for _, name := range o.PIDEnv {
		env = append(env, name+"="+strconv.Itoa(os.Getpid()))
	}
	program, args := string(o.Program), Strings(o.Args)
	unix.Write(s.talk, []byte{aboutToRun, '\n'})
	for range busyTries {
		if err = syscall.Exec(program, args, env); err != syscall.ETXTBSY {
			break
		}
		time.Sleep(busyWait)
	}
	return whyNotRun(program, args, env, o.Who, errnoOf(err))
}

// pidfs is the magic number of the file system that pidfds are in since Linux 6.9.
// Before it all of them had one inode, which named nobody.
const pidfs = 0x50494446

// ownPidfd is the inode of this process's pidfd, which names it for ever.
func ownPidfd() (uint64, bool) {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || fs.Type != pidfs || unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	return st.Ino, true
}

// hear reads the order to its end.
func (s shim) hear() (order, error) {
	var o order
	var text []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(s.talk, buf)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return o, err
		case n == 0:
			if len(text) == 0 {
				return o, io.ErrUnexpectedEOF
			}
			return o, json.Unmarshal(text, &o)
		default:
			text = append(text, buf[:n]...)
		}
	}
}

// say tells the master; if the master is gone there is nobody to tell.
func (s shim) say(r refusal) {
	line, err := json.Marshal(r)
	if err != nil {
		return
	}
	for line = append(line, '\n'); len(line) > 0; {
		n, err := unix.Write(s.talk, line)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return
		}
		line = line[n:]
	}
}

// setOOM never keeps a program from being run: where /proc cannot be written
// to, no worker would ever start.
func setOOM(adj int) (refusal, bool) {
	if adj == 0 {
		return refusal{}, false
	}
	err := process.SetScore(process.Self, adj)
	if err != nil {
		return refuse(err, "its oom_score_adj could not be set to %d: %s", adj, errnoOf(err)), true
	}
	return refusal{}, false
}

func setLimit(n uint64) (refusal, bool) {
	if n == 0 {
		return refusal{}, false // syscall.Exec puts back what this runtime has raised for itself
	}
	var was syscall.Rlimit
	syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was)
	err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
	if err == nil {
		return refusal{}, false
	}
	if os.Geteuid() == 0 {
		return refuse(err, "a limit of %d open files cannot be set: %s; the kernel's own is in /proc/sys/fs/nr_open", n,
			errnoOf(err)), true
	}
	return refuse(err, "a limit of %d open files cannot be set: %s; the master's own hard limit is %d, raise that "+
		"(LimitNOFILE= in its unit) or lower worker.limits.nofile", n, errnoOf(err), was.Max), true
}

// setLimits sets what the master was not given itself. That of processes is looked at by
// the kernel when the user is changed, and refuses the program then.
func setLimits(o order) error {
	if o.Core != nil {
		n := uint64(*o.Core)
		if err := syscall.Setrlimit(unix.RLIMIT_CORE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
			return fmt.Errorf("core files of %d bytes: %w", n, err)
		}
	}
	if o.NProc == 0 {
		return nil
	}
	var was syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NPROC, &was); err != nil {
		return err
	}
	n := o.NProc
	if os.Geteuid() != 0 {
		n = min(n, was.Max) // the tighter one of whoever has started the master holds
	}
	if err := syscall.Setrlimit(unix.RLIMIT_NPROC, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		return fmt.Errorf("%d processes: %w", n, err)
	}
	return nil
}

// become changes the user, last of all what needs privileges.
func become(who identity) (refusal, bool) {
	if !who.Change {
		return refusal{}, false
	}
	err := syscall.Setgroups(who.Groups)
	if err == nil {
		err = syscall.Setresgid(who.GID, who.GID, who.GID)
	}
	if err == nil {
		err = syscall.Setresuid(who.UID, who.UID, who.UID)
	}
	if err == nil {
		return refusal{}, false
	}
	return mayNot(who, err), true
}

func mayNot(who identity, err error) refusal {
	name := who.User
	if name == "" {
		name = "of group " + strconv.Itoa(who.GID)
	}
	if errnoOf(err) == syscall.EPERM {
		return refuse(err, "the master (uid %d) may not make a worker user %s: run the master as root, or leave out "+
			"worker.user and worker.group", os.Geteuid(), name)
	}
	return refuse(err, "it could not become user %s: %s", name, errnoOf(err))
}

// keepOnly lets the program have the descriptors below end, and no other.
func keepOnly(end int) error {
	for fd := range end {
		// A dup2 onto itself would have left the flag; say it once more.
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("descriptor %d: %w", fd, err)
		}
	}
	if unix.CloseRange(uint(end), math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	// Before Linux 5.11.
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	for _, name := range names {
		if fd, nan := strconv.Atoi(name); nan == nil && fd >= end {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

func refuse(err error, format string, a ...any) refusal {
	return refusal{Errno: errnoOf(err), Text: fmt.Sprintf(format, a...)}
}

func errnoOf(err error) syscall.Errno {
	errno, _ := errors.AsType[syscall.Errno](err)
	return errno
}
