package process

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Sockets are the inodes of a process's open sockets, by the numbers of its descriptors.
func Sockets(pid int) (map[int]uint64, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	found := map[int]uint64{}
	for _, name := range names {
		fd, nan := strconv.Atoi(name)
		if inode, none := Socket(pid, fd); nan == nil && none == nil { // else it is no socket, or closed just now
			found[fd] = inode
		}
	}
	return found, err
}

// Socket is the inode of one open socket; the process may be named by one of its threads.
func Socket(pid, fd int) (inode uint64, err error) {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, fmt.Errorf("descriptor %d is %s", fd, target)
	}
	return strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
}

// WithSocket finds who has a socket open; zero: nobody that this process may look at.
func WithSocket(inode uint64) (pid int) {
	for pid := range All() {
		open, _ := Sockets(pid) // of one that is gone, or not ours to look at: none
		for _, its := range open {
			if its == inode && inode != 0 {
				return pid
			}
		}
	}
	return 0
}

// UnixSocket is one line of the kernel's table of Unix sockets.
type UnixSocket struct {
	Path      string
	Inode     uint64
	Connected bool
}

// UnixSockets reads /proc/net/unix. While others come and go the kernel may leave some out.
func UnixSockets() ([]UnixSocket, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("reading the kernel's table of Unix sockets: %w", err)
	}
	defer f.Close()
	return parseUnix(f)
}

// connected is SS_CONNECTED.
const connected = 3

// parseUnix reads the table. A name is whatever its maker likes, with ends of lines in it:
// what is no line is passed over.
func parseUnix(table io.Reader) (all []UnixSocket, err error) {
	lines := bufio.NewReader(table)
	for err == nil {
		var line string
		line, err = lines.ReadString('\n')
		// Num RefCount Protocol Flags Type St Inode Path
		rest, fields := strings.TrimSuffix(line, "\n"), [7]string{}
		for i := range fields {
			fields[i], rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
		}
		state, err1 := strconv.ParseUint(fields[5], 16, 8)
		inode, err2 := strconv.ParseUint(fields[6], 10, 64)
		if err1 == nil && err2 == nil && strings.HasSuffix(fields[0], ":") {
			all = append(all, UnixSocket{Path: rest, Inode: inode, Connected: state == connected})
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}
