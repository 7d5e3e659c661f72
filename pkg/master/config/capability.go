package config

import (
	"fmt"
	"slices"
	"strings"
)

// capabilityNames are those of Linux, each at its number.
func capabilityNames() []string {
	return strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
		NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
		SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
		MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`)
}

const (
	// allCapabilities is the word for every one.
	allCapabilities = "ALL"
	// commonCapabilities are what programs that are started as root commonly need: to
	// give files to the users that they work as (CHOWN, FOWNER, FSETID, DAC_OVERRIDE),
	// to become them and signal them (SETUID, SETGID, SETPCAP, KILL), to be locked up
	// (SYS_CHROOT), to bind a low port, and to note logins (AUDIT_WRITE: su, PAM). They
	// are what container runtimes give by default, less what acts on the whole host
	// outside of a container: MKNOD, NET_RAW, SETFCAP.
	commonCapabilities = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE SYS_CHROOT AUDIT_WRITE"
	// serverCapabilities are those of nginx, HAProxy and PHP-FPM, which start as root
	// and serve as others; they raise the limit of descriptors besides.
	serverCapabilities = "CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID NET_BIND_SERVICE SYS_CHROOT SYS_RESOURCE"
)

// capabilitiesOf makes a set of names; the bit of each is its number.
func capabilitiesOf(names ...string) (set uint64, err error) {
	known := capabilityNames()
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if short == allCapabilities {
			set = ^uint64(0)
			continue
		}
		i := slices.Index(known, short)
		if i < 0 {
			return 0, fmt.Errorf("%q is no capability of Linux; write names such as CAP_NET_ADMIN, or ALL", name)
		}
		set |= 1 << i
	}
	return set, nil
}

// Beyond names those of worker.capabilities that are not in a set: who asks for ALL asks
// for what there is.
func (w *Worker) Beyond(has uint64) (names []string) {
	for _, name := range w.Capabilities {
		if set, _ := capabilitiesOf(name); set != ^uint64(0) && set&^has != 0 {
			names = append(names, "CAP_"+strings.TrimPrefix(strings.ToUpper(name), "CAP_"))
		}
	}
	return names
}

// Bounding is what workers can have of root's capabilities at the most, a bit for each:
// for those that are root, or become it.
func (w *Worker) Bounding() uint64 {
	set, _ := capabilitiesOf(slices.Concat(strings.Fields(w.commonOnes()), w.Capabilities)...)
	return set
}

// commonOnes are those that workers can have without being given any.
func (w *Worker) commonOnes() string {
	if w.common != "" {
		return w.common
	}
	if i := slices.IndexFunc(presets(), func(p preset) bool { return p.name == w.Preset }); i >= 0 && presets()[i].capabilities != "" {
		return presets()[i].capabilities
	}
	return commonCapabilities
}
