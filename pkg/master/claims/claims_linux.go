package claims

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Of is what processes have that is not this process's too, as a listener's sockets are. args
// are the program's: a path there that is a pid file's is looked at, beside those in the
// directory that the program runs in, in /run and below it, and in /tmp. It reads the disk
// and asks the kernel for all listening sockets.
func Of(processes []int, args []string) (c Claims, err error) {
	processes = processes[:min(len(processes), maxProcesses)]
	ours, err := process.Sockets(os.Getpid())
	if err != nil {
		return c, err
	}
	theirs := map[uint64]bool{}
	for _, pid := range processes {
		open, _ := process.Sockets(pid) // of one that is gone, or not ours to look at: none
		for _, inode := range open {
			theirs[inode] = true
		}
	}
	for _, inode := range ours {
		delete(theirs, inode)
	}
	if err := c.addPorts(theirs); err != nil {
		return c, err
	}
	if err := c.addSockets(theirs); err != nil {
		return c, err
	}
	c.addPIDFiles(processes, args)
	return c, nil
}

func (c *Claims) addPorts(theirs map[uint64]bool) error {
	first, last := chosen()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := sockdiag.TCP(sockdiag.Query{Family: family, States: 1 << sockdiag.Listen}, func(s sockdiag.Socket) {
			at := netip.AddrPortFrom(s.Local.Addr().Unmap(), s.Local.Port())
			byKernel := at.Port() >= first && at.Port() <= last
			if theirs[s.Inode] && !byKernel && !slices.Contains(c.Ports, at) && len(c.Ports) < maxClaims {
				c.Ports = append(c.Ports, at)
			}
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(c.Ports, netip.AddrPort.Compare)
	return nil
}

// chosen are the first and the last port that the kernel chooses by itself: one of them is
// most likely another in each version.
func chosen() (first, last uint16) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if _, none := fmt.Sscan(string(text), &first, &last); err != nil || none != nil {
		return 32768, 60999 // the kernel's default
	}
	return first, last
}

func (c *Claims) addSockets(theirs map[uint64]bool) error {
	all, err := process.UnixSockets()
	if err != nil {
		return err
	}
	for _, s := range all {
		// What was accepted has the path too, and is connected.
		if theirs[s.Inode] && !s.Connected && strings.HasPrefix(s.Path, "/") && len(c.Sockets) < maxClaims &&
			!slices.Contains(c.Sockets, s.Path) && There(s.Path) {
			c.Sockets = append(c.Sockets, s.Path)
		}
	}
	slices.Sort(c.Sockets)
	return nil
}

func (c *Claims) addPIDFiles(processes []int, args []string) {
	var dirs []string
	if len(processes) > 0 {
		if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", processes[0])); err == nil {
			dirs = append(dirs, dir)
		}
	}
	look := func(path string) {
		if len(c.PIDFiles) < maxClaims && !slices.Contains(c.PIDFiles, path) &&
			slices.Contains(processes, pidIn(path)) {
			c.PIDFiles = append(c.PIDFiles, path)
		}
	}
	for _, arg := range args {
		if _, value, ok := strings.Cut(arg, "="); ok {
			arg = value // --pid=PATH
		}
		if strings.HasSuffix(arg, ".pid") {
			if !filepath.IsAbs(arg) && len(dirs) > 0 {
				arg = filepath.Join(dirs[0], arg)
			}
			look(filepath.Clean(arg))
		}
	}
	dirs = append(dirs, "/tmp", "/run")
	for _, name := range names("/run") {
		if len(dirs) < maxDirs {
			dirs = append(dirs, filepath.Join("/run", name))
		}
	}
	for _, dir := range dirs {
		for _, name := range names(dir) {
			if strings.HasSuffix(name, ".pid") {
				look(filepath.Join(dir, name))
			}
		}
	}
	slices.Sort(c.PIDFiles)
}

// names are those in a directory, so many at most; what is none has none.
func names(dir string) []string {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	all, _ := f.Readdirnames(maxNames)
	return all
}

// pidIn is the number in a file; zero: it is none of a process.
func pidIn(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxPIDFile {
		return 0
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPIDFile))
	pid, nan := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || nan != nil || pid <= 0 {
		return 0
	}
	return pid
}

// There tells whether something has a path.
func There(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
