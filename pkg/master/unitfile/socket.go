package unitfile

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/masterd/masterd/pkg/master/draft"
)

// maxListeners is how many a configuration has at most.
const maxListeners = 64

// socketUnit makes listeners of a socket unit.
func (u *Unit) socketUnit(path string) error {
	entries, wrong, err := read(path)
	if err != nil {
		return err
	}
	file := filepath.Base(path)
	for _, w := range wrong {
		u.lost(file, "%s", w)
	}
	u.socket = true
	specs := specifiersOf(file)
	var streams []string
	options := map[string]string{}
	for _, e := range entries {
		if e.section != "Socket" {
			continue
		}
		value, err := specs.expand(e.value)
		if err != nil {
			u.lost(e.key, "%v", err)
			continue
		}
		switch e.key {
		case "ListenStream":
			if value == "" {
				streams = nil
			} else {
				streams = append(streams, value)
			}
		case "FileDescriptorName", "SocketMode", "SocketGroup", "Backlog", "BindIPv6Only":
			options[e.key] = value
		case "Accept":
			if yes(value) {
				u.lost(e.key, "systemd starts a process for each connection, and passes that; a worker of masterd takes them itself")
			}
		case "Service", "RemoveOnStop", "DirectoryMode", "FlushPending":
		case "SocketUser":
			u.lost(e.key, "%s: a Unix socket is the master's; its group and its mode say who may connect", value)
		case "ListenDatagram", "ListenSequentialPacket", "ListenFIFO", "ListenSpecial", "ListenNetlink", "ListenMessageQueue", "ListenUSBFunction":
			u.lost(e.key, "%s: listeners are TCP and Unix stream sockets", value)
		default:
			u.lost(e.key, "%s: a listener has no such option", short(value))
		}
	}
	if len(streams) > maxListeners {
		return fmt.Errorf("%s: there are more than %d ListenStream=", path, maxListeners)
	}
	if len(streams) == 0 {
		u.lost(file, "it has no ListenStream=")
	}
	name := options["FileDescriptorName"]
	if name == "" {
		name = "http"
		u.say("ListenStream", "its name is http here, which the program is told in LISTEN_FDNAMES; systemd's is %s", file)
	}
	taken := map[string]bool{}
	for _, s := range streams {
		l, err := stream(s, options)
		if err != nil {
			u.lost("ListenStream", "%s: %v", short(s), err)
			continue
		}
		l.name = draft.ServiceName(name, taken)
		u.listeners = append(u.listeners, l)
	}
	if len(u.listeners) > 1 || len(u.listeners) == 1 && u.listeners[0].name != name {
		u.say("FileDescriptorName", "each listener has a name of its own here; their order is the same")
	}
	return nil
}

// stream is a listener's address.
func stream(value string, options map[string]string) (l listener, err error) {
	if n, bad := strconv.Atoi(options["Backlog"]); bad == nil && n >= 1 && n <= 65535 {
		l.backlog = n // else as masterd has it; systemd's is as large as it can be
	}
	network := "tcp"
	if options["BindIPv6Only"] == "ipv6-only" {
		network = "tcp6"
	}
	switch _, bad := strconv.ParseUint(value, 10, 16); {
	case strings.HasPrefix(value, "/"):
		l.address, err = unixAddress(value, options)
	case strings.HasPrefix(value, "@"):
		return l, errors.New("abstract sockets have no owner, and anybody could take the name; give it a path")
	case bad == nil:
		l.address = network + "://:" + value
	default:
		at, err := netip.ParseAddrPort(value)
		if err != nil {
			return l, errors.New("it is no port, no ADDRESS:PORT and no path")
		}
		if at.Addr().Is4() || !at.Addr().IsUnspecified() {
			network = "tcp"
		}
		if l.address = network + "://" + at.String(); at.Addr() == netip.IPv6Unspecified() {
			l.address = fmt.Sprintf("%s://:%d", network, at.Port())
		}
	}
	return l, err
}

// unixAddress is that of a path, with who may connect.
func unixAddress(path string, options map[string]string) (string, error) {
	if strings.ContainsAny(path, "?#%") {
		return "", errors.New("the path has what a listener's address cannot have")
	}
	var query []string
	if mode := options["SocketMode"]; mode != "" {
		query = append(query, "mode="+url.QueryEscape(mode))
	}
	if group := options["SocketGroup"]; group != "" {
		query = append(query, "group="+url.QueryEscape(group))
	}
	if len(query) == 0 {
		return "unix://" + path, nil
	}
	return "unix://" + path + "?" + strings.Join(query, "&"), nil
}
