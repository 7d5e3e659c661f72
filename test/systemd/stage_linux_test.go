package systemd

import (
	"crypto/rand"
	"encoding/hex"
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

// stageEnv tells this program that it is the first process of a box, and in
// which cgroup.
const stageEnv = "MASTERD_TEST_BOX"

// stageV1Env names its cgroups of version 1, if it is to have some.
const stageV1Env = "MASTERD_TEST_BOX_V1"

// systemdPaths is where distributions have it.
var systemdPaths = []string{"/lib/systemd/systemd", "/usr/lib/systemd/systemd"}

// boxUnits is all that a box's systemd knows besides masterd. The host's own
// units stay out: they would load modules, set clocks and want a network.
var boxUnits = map[string]string{
	"box.target": "[Unit]\nDescription=A box for tests\nDefaultDependencies=no\nAllowIsolate=yes\n" +
		"Requires=systemd-journald.service\nAfter=systemd-journald.service\n",
	"systemd-journald.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenDatagram=/run/systemd/journal/socket\n" +
		"ListenStream=/run/systemd/journal/stdout\nPassCredentials=yes\nReceiveBuffer=8M\nTimestamping=us\n",
	"systemd-journald.service": "[Unit]\nDefaultDependencies=no\nRequires=systemd-journald.socket\nAfter=systemd-journald.socket\n" +
		"[Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\nSockets=systemd-journald.socket\n" +
		"RuntimeDirectory=systemd/journal\nRuntimeDirectoryPreserve=yes\nStandardOutput=null\nFileDescriptorStoreMax=64\n",
	// What units depend on by default.
	"sysinit.target": emptyUnit, "basic.target": emptyUnit, "shutdown.target": emptyUnit, "umount.target": emptyUnit,
	"network-online.target": emptyUnit, "multi-user.target": emptyUnit,
}

const emptyUnit = "[Unit]\nDescription=%N\nDefaultDependencies=no\n"

// stage turns the first process of new namespaces into a systemd that sees a
// host of its own: what it could write to is its own memory, the rest is read
// only. It only returns if that fails.
func stage(cgroup, v1 string) error {
	// The cgroup namespace, and the signal at the end of the run, are the thread's own
	// until exec makes them everybody's.
	runtime.LockOSThread()
	steps := []struct {
		what string
		do   func() error
	}{
		// What the start asked for was for the first thread, which may be another one.
		{"end with the run", func() error { return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0) }},
		{"keep mounts to ourselves", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"enter " + cgroup, func() error { return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte("0"), 0) }},
		{"enter cgroups of version 1", func() error { return enterV1(v1) }},
		{"unshare the cgroup namespace", func() error { return unix.Unshare(unix.CLONE_NEWCGROUP) }},
		{"mount /proc", func() error {
			return unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}},
		{"mount cgroups", func() error { return mountCgroups(v1) }},
		{"make /etc", makeEtc},
		{"make /dev", makeDev},
		{"make /run", func() error { return mountTmpfs("/run") }},
		{"make /var", makeVar},
		{"make /tmp", func() error { return errors.Join(mountTmpfs("/tmp"), os.Chmod("/tmp", 0o777|fs.ModeSticky)) }},
		{"make /usr/local", func() error {
			return errors.Join(mountTmpfs("/usr/local"), os.Mkdir("/usr/local/bin", 0o755))
		}},
		{"make the rest read only", func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "") }},
		{"share mounts in the box", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }},
		{"bring up the loopback interface", loopbackUp},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
	}
	for _, path := range systemdPaths {
		err := syscall.Exec(path, []string{path, "--system", "--show-status=no", "--unit=box.target"}, []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"container=masterd-test", // leave the clock, the kernel and the console alone
			"SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/transient", // the second is for scopes, which a daemon-reload reads again
			"SYSTEMD_GENERATOR_PATH=/run/none", "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/none",
			"SYSTEMD_LOG_TARGET=journal",
		})
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("exec %s: %w", path, err)
		}
	}
	return fmt.Errorf("none of %q is there", systemdPaths)
}

func mountTmpfs(path string) error {
	return unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID, "mode=755")
}

// mountCgroups gives the box a pure cgroup v2 view, whatever the host has, or one with
// controllers of version 1 beside it.
func mountCgroups(v1 string) error {
	// Lazily: with all that is mounted below.
	if err := unix.Unmount("/sys/fs/cgroup", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if v1 == "" {
		return unix.Mount("cgroup2", "/sys/fs/cgroup", "cgroup2", flags, "")
	}
	if err := errors.Join(mountTmpfs("/sys/fs/cgroup"), os.Mkdir("/sys/fs/cgroup/unified", 0o755), unix.Mount("cgroup2", "/sys/fs/cgroup/unified", "cgroup2", flags, "")); err != nil {
		return err
	}
	for _, c := range v1Controllers {
		at := "/sys/fs/cgroup/" + strings.TrimPrefix(c, "name=")
		if err := errors.Join(os.Mkdir(at, 0o755), unix.Mount("cgroup", at, "cgroup", flags, strings.Replace(c, "name=", "none,name=", 1))); err != nil {
			return err
		}
	}
	// What the box's systemd would mount besides would be the host's own.
	return unix.Mount("", "/sys/fs/cgroup", "", unix.MS_REMOUNT|flags|unix.MS_RDONLY, "")
}

// makeEtc keeps of the host's what programs need to run, and no setting.
func makeEtc() error {
	keep := map[string][]byte{}
	for _, name := range []string{"passwd", "group", "ld.so.cache", "ld.so.conf", "manpath.config"} {
		if b, err := os.ReadFile("/etc/" + name); err == nil {
			keep[name] = b
		}
	}
	if err := mountTmpfs("/etc"); err != nil {
		return err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	keep["machine-id"] = []byte(hex.EncodeToString(id[:]) + "\n")
	keep["hostname"] = []byte("box\n")
	keep["nsswitch.conf"] = []byte("passwd: files\ngroup: files\nhosts: files\n")
	keep["hosts"] = []byte("127.0.0.1 localhost\n::1 localhost\n")
	keep["systemd/journald.conf"] = []byte("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitIntervalSec=0\n")
	for name, text := range boxUnits {
		keep["systemd/system/"+name] = []byte(text)
	}
	for name, b := range keep {
		path := filepath.Join("/etc", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

func makeDev() error {
	if err := mountTmpfs("/dev"); err != nil {
		return err
	}
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		path := "/dev/" + d.name
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return err
		}
		if err := os.Chmod(path, 0o666); err != nil { // whatever the umask is
			return err
		}
	}
	// What PrivateDevices= wants to find.
	for _, dir := range []string{"/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages"} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("devpts", "/dev/pts", "devpts", unix.MS_NOSUID|unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"); err != nil {
		return err
	}
	return errors.Join(os.Symlink("pts/ptmx", "/dev/ptmx"), os.Symlink("/proc/self/fd", "/dev/fd"), os.Symlink("/proc/self/fd/0", "/dev/stdin"),
		os.Symlink("/proc/self/fd/1", "/dev/stdout"), os.Symlink("/proc/self/fd/2", "/dev/stderr"))
}

func makeVar() error {
	if err := mountTmpfs("/var"); err != nil {
		return err
	}
	for _, dir := range []string{"lib", "log", "cache", "tmp"} {
		if err := os.Mkdir("/var/"+dir, 0o755); err != nil {
			return err
		}
	}
	return errors.Join(os.Chmod("/var/tmp", 0o777|fs.ModeSticky), os.Symlink("/run", "/var/run"))
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
