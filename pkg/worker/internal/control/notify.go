package control

import (
	"fmt"
	"net"
)

// notify sends a state to systemd (or whoever reads NOTIFY_SOCKET). With an empty path there
// is nobody to send it to.
func notify(path, state string) error {
	if path == "" {
		return nil
	}
	// A path that begins with @ is in the abstract namespace; net knows that.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("telling %q on %s: %w", state, envNotify, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("telling %q on %s: %w", state, envNotify, err)
	}
	return nil
}
