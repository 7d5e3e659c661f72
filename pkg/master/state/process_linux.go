package state

import (
	"fmt"
	"os"
	"strings"
	"unicode"
)

// commandOf returns a process's command line for people, empty if it cannot be
// read.
func commandOf(pid int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	command := strings.TrimSpace(strings.ReplaceAll(string(text), "\x00", " "))
	command = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, command)
	if len(command) > maxCommand {
		command = strings.ToValidUTF8(command[:maxCommand], "") + " …"
	}
	return command
}
