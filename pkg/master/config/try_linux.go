package config

import "golang.org/x/sys/unix"

// noExec tells whether a file system forbids to execute what is on it.
func noExec(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}

// hasCapabilities tells whether exec would give a file capabilities.
func hasCapabilities(path string) bool {
	n, err := unix.Getxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// hasACL tells whether more than the mode decides who may use a file.
func hasACL(path string) bool {
	n, err := unix.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil && n > 0
}
