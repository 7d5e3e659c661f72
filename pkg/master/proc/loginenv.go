package proc

// defaultPath is what systemd gives its services, too.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// LoginEnv is the little that a program may expect in its environment without
// being told: PATH, and for another user than the master's HOME, USER and
// LOGNAME, as systemd.exec(5) has it. Nothing of the master's own environment
// is passed on.
func LoginEnv(name string) map[string]string {
	env := map[string]string{"PATH": defaultPath}
	if name == "" {
		return env
	}
	if u, err := lookup(name); err == nil {
		env["HOME"], env["USER"], env["LOGNAME"] = u.HomeDir, u.Username, u.Username
	}
	return env
}
