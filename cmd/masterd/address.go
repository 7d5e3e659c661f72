package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// listenAddress is an address, as people write one, as the configuration has it.
func listenAddress(text string) (string, error) {
	if strings.Contains(text, "://") {
		return text, nil // the configuration says what is wrong with it
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil && n > 0 {
		return "tcp://:" + text, nil
	}
	host, port, ok := strings.Cut(text, ":")
	if i := strings.LastIndex(text, ":"); ok && i >= 0 {
		host, port = text[:i], text[i+1:]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	_, bad := netip.ParseAddr(strings.Trim(host, "[]"))
	if !ok || err != nil || n == 0 || host != "" && host != "localhost" && bad != nil {
		return "", fmt.Errorf("%q is no address; write :8080, 127.0.0.1:8080 or unix:///run/shop.sock", text)
	}
	return "tcp://" + text, nil
}

// urlOf is where a listener is reached from this machine.
func urlOf(address string) string {
	_, at, _ := strings.Cut(address, "://")
	switch {
	case strings.HasPrefix(address, "unix:"):
		return at
	case strings.HasPrefix(at, ":"):
		at = "127.0.0.1" + at
	case strings.HasPrefix(at, "0.0.0.0:"):
		at = "127.0.0.1" + strings.TrimPrefix(at, "0.0.0.0")
	}
	return "http://" + at
}
