package draft

import (
	"maps"
	"slices"
	"strings"
)

var (
	addressIn = lazy(`(?:^|[=/@])((?:\d{1,3}(?:\.\d{1,3}){3}|localhost|\[[0-9a-fA-F:.]*\]|\*)?:\d{2,5})$`)
	portIn    = lazy(`(?:^|=)(\d{2,5})$`)
	listensBy = lazy(`^--?(?:port|bind|listen|addr|address|http|http-address|listen-address|workers-port)(?:$|=)`)
	listensIn = lazy(`^(?:(?:HTTPS?|APP|SERVER|WEB|LISTEN)_)?(?:PORT|BIND|LISTEN|ADDR|ADDRESS)$`)
)

// addressOf is the address that a text ends with, or that of a port; empty: none.
func addressOf(text string) string {
	if m := addressIn().FindStringSubmatch(text); m != nil {
		return m[1]
	}
	if m := portIn().FindStringSubmatch(text); m != nil {
		return "127.0.0.1:" + m[1]
	}
	return ""
}

// AddressOf looks for signs in arguments and variables that a program listens by itself, and
// for its address in them; both may be empty. An address elsewhere may be that of a server
// which the program is a client of, and is no sign.
func AddressOf(command []string, env map[string]string) (sign, address string) {
	for i, arg := range command {
		switch {
		case i == 0:
		case listensBy().MatchString(arg):
			sign, address = arg, addressOf(arg)
			if address == "" && !strings.Contains(arg, "=") && i+1 < len(command) {
				sign, address = arg+" "+command[i+1], addressOf(command[i+1])
			}
			return sign, address
		case strings.Contains(arg, ":") && addressOf(arg) == arg && !strings.HasPrefix(command[i-1], "--"):
			return arg, arg
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if listensIn().MatchString(name) {
			return name + "=" + env[name], addressOf(env[name])
		}
	}
	return "", ""
}

// Listener is an address as the configuration has it.
func Listener(address string) string { return "tcp://" + strings.Replace(address, "*", "", 1) }
