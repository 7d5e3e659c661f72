package proc

import (
	"bytes"
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// All of this runs in the shim, as the worker's user: what that user cannot see
// is just what has to be explained.

const headSize = 256 // bytes of a script in which the kernel looks for its interpreter (BINPRM_BUF_SIZE)

func (who identity) name() string {
	if who.User != "" {
		return "the worker's user " + who.User
	}
	return fmt.Sprintf("the worker's user (uid %d)", os.Geteuid())
}

// whyNotDir explains a chdir that failed.
func whyNotDir(dir string, who identity, errno syscall.Errno) refusal {
	switch errno {
	case syscall.ENOENT:
		return refuse(errno, "there is no directory %s; create it or change worker.directory", missing(dir))
	case syscall.ENOTDIR:
		return refuse(errno, "%s is not a directory; change worker.directory", dir)
	case syscall.EACCES:
		closed := cmp.Or(unreachable(dir), dir)
		return refuse(errno, "%s cannot enter %s: permission denied; chmod o+x %s, or choose another worker.directory",
			who.name(), closed, closed)
	}
	return refuse(errno, "the directory %s cannot be entered: %s", dir, errno)
}

// whyNotRun explains an exec that failed.
func whyNotRun(program string, args, env []string, who identity, errno syscall.Errno) refusal {
	switch errno {
	case syscall.ENOENT:
		if text := whyNoInterpreter(program); text != "" {
			return refuse(errno, "%s", text)
		}
		if target, err := os.Readlink(program); err == nil {
			return refuse(errno, "it is a symbolic link to %s, which does not exist", target)
		}
		return refuse(errno, "there is no %s", missing(program))
	case syscall.EACCES:
		return refuse(errno, "%s", whyDenied(program, who))
	case syscall.ENOEXEC:
		return refuse(errno, "%s", whyNoFormat(program))
	case syscall.ETXTBSY:
		return refuse(errno, "somebody still has it open for writing (%s); let the copy finish, or install by renaming",
			errno)
	case syscall.E2BIG:
		size := 0
		for _, list := range [][]string{args, env} {
			for _, s := range list {
				size += len(s) + 1
			}
		}
		return refuse(errno, "%d arguments and %d environment variables of %d bytes together are more than the kernel "+
			"takes; see worker.env and worker.env_files", len(args), len(env), size)
	case syscall.EAGAIN:
		return refuse(errno, "%s has as many processes as it may have (%s); all that run as this user on the host count: "+
			"raise worker.limits.processes, or give the service a user of its own", who.name(), errno)
	case syscall.ENOMEM:
		return refuse(errno, "there is not enough memory to run it (%s)", errno)
	case syscall.EPERM:
		return refuse(errno, "running it is not permitted (%s): it has a file capability that it cannot get "+
			"(worker.no_new_privileges: \"no\" leaves those of worker.capabilities; the master's own bounds hold, too), "+
			"or a security policy forbids it", errno)
	}
	return refuse(errno, "%s", errno)
}

// whyNoInterpreter: the program is there, what would run it is not.
func whyNoInterpreter(program string) string {
	if _, err := os.Stat(program); err != nil {
		return ""
	}
	interpreter, kind := interpreterOf(program)
	switch {
	case interpreter == "":
		return ""
	case strings.HasSuffix(interpreter, "\r"):
		return fmt.Sprintf("its first line names the interpreter %q: the line ends as on Windows; save it with Unix line "+
			"ends", interpreter)
	}
	return fmt.Sprintf("it needs the %s %s, which does not exist here", kind, interpreter)
}

func interpreterOf(program string) (path, kind string) {
	f, err := os.Open(program)
	if err != nil {
		return "", ""
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, _ := f.ReadAt(head, 0)
	head = head[:n]
	if rest, ok := bytes.CutPrefix(head, []byte("#!")); ok {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		line = bytes.Trim(line, " \t")
		if i := bytes.IndexAny(line, " \t"); i >= 0 {
			line = line[:i]
		}
		return string(line), "interpreter"
	}
	bin, err := elf.NewFile(f)
	if err != nil {
		return "", ""
	}
	for _, p := range bin.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < unix.PathMax {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err == nil {
				return string(bytes.TrimRight(name, "\x00")), "dynamic loader"
			}
		}
	}
	return "", ""
}

func whyDenied(program string, who identity) string {
	if closed := unreachable(filepath.Dir(program)); closed != "" {
		return fmt.Sprintf("%s cannot enter %s: permission denied; chmod o+x %s, or install the program elsewhere",
			who.name(), closed, closed)
	}
	info, err := os.Stat(program)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Sprintf("%s cannot reach what it is a symbolic link to: permission denied", who.name())
	}
	switch {
	case err != nil:
		return err.Error()
	case info.IsDir():
		return "it is a directory; name the program in it"
	case !info.Mode().IsRegular():
		return "it is not a regular file"
	case info.Mode()&0o111 == 0:
		return fmt.Sprintf("it is not executable; chmod +x %s", program)
	case unix.Faccessat(unix.AT_FDCWD, program, unix.X_OK, unix.AT_EACCESS) != nil && !noexec(program):
		return fmt.Sprintf("%s may not execute it (mode %v, owner %s): permission denied; chmod o+rx %s", who.name(),
			info.Mode().Perm(), owner(info), program)
	case noexec(program):
		return "its file system is mounted noexec: nothing on it can be run; install it elsewhere, or mount that with exec"
	}
	if interpreter, kind := interpreterOf(program); interpreter != "" {
		if closed := unreachable(filepath.Dir(interpreter)); closed != "" {
			return fmt.Sprintf("%s cannot enter %s, where its %s %s is: permission denied", who.name(), closed, kind,
				interpreter)
		}
		if unix.Faccessat(unix.AT_FDCWD, interpreter, unix.X_OK, unix.AT_EACCESS) != nil {
			return fmt.Sprintf("%s may not execute its %s %s", who.name(), kind, interpreter)
		}
	}
	return "permission denied although its mode allows it: a security policy (SELinux, AppArmor)?"
}

func whyNoFormat(program string) string {
	f, err := os.Open(program)
	if err != nil {
		return "it is not a program that this kernel can run"
	}
	defer f.Close()
	if bin, err := elf.NewFile(f); err == nil {
		return fmt.Sprintf("it is a program for %s, this machine is %s", strings.TrimPrefix(bin.Machine.String(), "EM_"),
			runtime.GOARCH)
	}
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		return "the file is empty: was it copied while it was being written?"
	}
	return "it is neither a program nor a script: a script's first line must name its interpreter (#!/bin/sh), " +
		"a program may be cut off"
}

func noexec(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}

func owner(info fs.FileInfo) string {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
	}
	return "?"
}

// unreachable is the first directory on the way to dir, dir too, that this
// user may not search; "" when there is none.
func unreachable(dir string) string {
	for _, d := range wayTo(dir) {
		if unix.Faccessat(unix.AT_FDCWD, d, unix.X_OK, unix.AT_EACCESS) == unix.EACCES {
			return d
		}
	}
	return ""
}

// missing is the first part of path that does not exist, or path.
func missing(path string) string {
	for _, p := range wayTo(path) {
		if _, err := os.Lstat(p); errors.Is(err, fs.ErrNotExist) {
			return p
		}
	}
	return path
}

// wayTo lists path and the directories above it, the root first.
func wayTo(path string) []string {
	var way []string
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		way = append([]string{p}, way...)
		if p == filepath.Dir(p) {
			return way
		}
	}
}
