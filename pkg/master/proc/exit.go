package proc

import (
	"fmt"
	"syscall"
)

// Exit is how a process ended.
type Exit struct {
	Code       int            // as the program gave it; -1 when a signal ended it
	Signal     syscall.Signal // that ended it; zero when it exited by itself
	CoreDumped bool
	Unknown    bool // nobody told: it was not this master's child, and the kernel does not say; Code is -1
}

// String is how people know it: "exit status 1", "signal: killed".
func (e Exit) String() string {
	if e.Unknown {
		return "exited, status not known (it was not this master's child)"
	}
	if e.Signal == 0 {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	text := "signal: " + e.Signal.String()
	if e.CoreDumped {
		text += " (core dumped)"
	}
	return text
}

func exitOf(ws syscall.WaitStatus) Exit {
	if ws.Signaled() {
		return Exit{Code: -1, Signal: ws.Signal(), CoreDumped: ws.CoreDump()}
	}
	return Exit{Code: ws.ExitStatus()}
}
