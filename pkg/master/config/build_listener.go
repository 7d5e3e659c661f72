package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	// maxSocketPath bounds the path of a Unix socket, in bytes. The kernel
	// takes 107; each generation's socket is bound under a longer name beside
	// the public one.
	maxSocketPath = 107 - 20
	// defaultMode of a Unix socket lets any local user connect, as a TCP port does.
	defaultMode = 0o666
)

// listeners checks names and addresses.
func (b *builder) listeners(c *Config) {
	names, addresses := map[string]int{}, map[string]int{}
	for i := range c.Listeners {
		l, at := &c.Listeners[i], fmt.Sprintf("listeners[%d]", i)
		first, twice := names[l.Name]
		switch {
		case l.Name == "":
			b.missing(at+".name", "must be given: what the worker knows the listener by")
		case !matches("a-z0-9_-", l.Name):
			b.add(at+".name", fmt.Sprintf(`%s is not 1 to 32 of a-z, 0-9, "_" and "-"`, short(l.Name)))
		case twice:
			b.add(at+".name", fmt.Sprintf("%s is also the name of listeners[%d]", short(l.Name), first))
		default:
			names[l.Name] = i
		}

		if l.Address == "" {
			b.missing(at+".address", "must be given, such as tcp://127.0.0.1:8080")
			continue
		}
		if err := parseAddress(l); err != nil {
			b.add(at+".address", err.Error())
			continue
		}
		if first, twice := addresses[l.where()]; twice {
			b.add(at+".address", fmt.Sprintf("%s is also the address of listeners[%d]", l.where(), first))
		}
		addresses[l.where()] = i
		b.account(at+".address", l.Group, b.host.group)
		if l.Network == "unix" && l.Steering == "kernel" {
			b.add(at+".steering", `"kernel" is for TCP; Unix sockets take "auto" or "shared"`)
		}
	}
	b.overlaps(c.Listeners)
}

// missing tells that a key is not there, unless its form was told already.
func (b *builder) missing(path, text string) {
	for _, p := range b.doc.list {
		if p.Key == path || p.Key == path[:strings.LastIndexByte(path, '.')] {
			return
		}
	}
	b.add(path, text)
}

// overlaps refuses two wildcards on one port of which one takes both IPv4 and
// IPv6: the kernel would see them as one group of sockets.
func (b *builder) overlaps(all []Listener) {
	dual := map[int]int{}
	for i, l := range all {
		if l.Network == "tcp" && (l.Host == "" || l.Host == "::") {
			dual[l.Port] = i
		}
	}
	for i, l := range all {
		j, ok := dual[l.Port]
		if !ok || i == j || l.Network == "unix" || l.Network == "" {
			continue
		}
		if a, err := netip.ParseAddr(l.Host); l.Host == "" || (err == nil && a.IsUnspecified()) {
			b.add(fmt.Sprintf("listeners[%d].address", i), fmt.Sprintf("%s is within listeners[%d], which takes IPv4 and IPv6 on all addresses; "+
				"write tcp4:// and tcp6:// to tell them apart", l.Address, j))
		}
	}
}

// where is the address without its options, in one spelling.
func (l *Listener) where() string {
	if l.Network == "unix" {
		return "unix://" + l.Path
	}
	host := l.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s://%s:%d", l.Network, host, l.Port)
}

// parseAddress fills in what the address of a listener means.
func parseAddress(l *Listener) error {
	network, rest, ok := strings.Cut(l.Address, "://")
	if !ok {
		return fmt.Errorf("%s has no scheme; write tcp://%s or unix:///PATH", short(l.Address), hostPort(l.Address))
	}
	switch network {
	case "tcp", "tcp4", "tcp6":
		return parseTCP(l, network, rest)
	case "unix":
		return parseUnix(l, rest)
	case "http", "https":
		return fmt.Errorf("%q names no transport; write tcp://%s (what is spoken on it is the worker's)", network, rest)
	case "udp", "udp4", "udp6", "quic", "unixgram":
		return fmt.Errorf("%q is not available in this version of masterd; write tcp, tcp4, tcp6 or unix", network)
	}
	return fmt.Errorf("%s is not a known scheme; write tcp, tcp4, tcp6 or unix", short(network))
}

// hostPort guesses what was meant by an address without a scheme.
func hostPort(s string) string {
	if _, err := strconv.ParseUint(s, 10, 16); err == nil {
		return ":" + s
	}
	if strings.Contains(s, ":") && !strings.ContainsAny(s, "/?#") && len(s) <= maxWord {
		return s
	}
	return "HOST:PORT"
}

func parseTCP(l *Listener, network, rest string) error {
	i := strings.LastIndexByte(rest, ':')
	if i < 0 || strings.HasSuffix(rest, "]") {
		return fmt.Errorf("%s has no port; write %s://%s:8080", short(l.Address), network, strings.TrimSuffix(rest, "/"))
	}
	host, portText := rest[:i], rest[i+1:]
	if slash := strings.IndexAny(rest, "/?#@"); slash >= 0 {
		return fmt.Errorf("%s has %s after or within HOST:PORT; a tcp address has nothing more", short(l.Address), short(rest[slash:]))
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("%s is not a port; ports are 1 to 65535", short(portText))
	}
	bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.Contains(bare, ":") && bare == host {
		return fmt.Errorf("the IPv6 address in %s needs brackets: %s://[%s]:%s", short(l.Address), network, host, portText)
	}
	switch bare {
	case "*":
		bare = ""
	case "localhost":
		bare = "127.0.0.1"
		if network == "tcp6" {
			bare = "::1"
		}
	}
	if bare == "" && host != "" && host != "*" {
		return fmt.Errorf("%s has empty brackets; write %s://[::]:%s", short(l.Address), network, portText)
	}
	if bare != "" {
		if bare, err = checkHost(network, bare); err != nil {
			return err
		}
	}
	l.Network, l.Host, l.Port = network, bare, int(port)
	return nil
}

// checkHost returns the one spelling of an IP address that fits the network.
func checkHost(network, host string) (string, error) {
	a, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s is not an IP address; names are not looked up, write the address (or localhost)", short(host))
	case a.Zone() != "":
		return "", fmt.Errorf("%s: addresses with a zone are not available in this version of masterd", short(host))
	case a.Is4In6():
		return "", fmt.Errorf("%s is an IPv4 address in IPv6 form; write %s", short(host), a.Unmap())
	case a.IsMulticast():
		return "", fmt.Errorf("%s is a multicast address; nothing can be served there", short(host))
	case network == "tcp4" && !a.Is4():
		return "", fmt.Errorf("%s is an IPv6 address; write tcp6://", short(host))
	case network == "tcp6" && !a.Is6():
		return "", fmt.Errorf("%s is an IPv4 address; write tcp4://", short(host))
	}
	return a.String(), nil
}

func parseUnix(l *Listener, rest string) error {
	path, query, _ := strings.Cut(rest, "?")
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("the path in %s is not absolute; write unix:///%s", short(l.Address), strings.TrimPrefix(path, "@"))
	case strings.HasSuffix(path, "/"):
		return fmt.Errorf("%s is a directory; name the socket in it", short(path))
	}
	path = filepath.Clean(path)
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path has %d bytes, at most %d are allowed for a socket", len(path), maxSocketPath)
	}
	options, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("%s: what follows the ? cannot be read: %w", short(l.Address), err)
	}
	l.Network, l.Path, l.Mode = "unix", path, defaultMode
	for name, values := range options {
		value := values[len(values)-1]
		switch {
		case len(values) > 1:
			return fmt.Errorf("%s is given %d times", name, len(values))
		case name == "mode":
			mode, err := strconv.ParseUint(value, 8, 32)
			if err != nil || mode > 0o777 || mode == 0 {
				return fmt.Errorf("mode %s is not an octal file mode such as 0660", short(value))
			}
			l.Mode = uint32(mode)
		case name == "group":
			if value == "" {
				return fmt.Errorf("group has no name; leave it out to keep the master's")
			}
			l.Group = value
		default:
			return fmt.Errorf("%s is not an option of a Unix socket; there are mode and group", short(name))
		}
	}
	return nil
}
