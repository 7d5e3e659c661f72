package state

import (
	"fmt"
	"os"
	"strings"
	"unicode"
)

// started returns when a process began, in the kernel's own unit; with the pid
// it names a process for ever. Not ok: there is no such process.
func started(pid int) (begun string, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "-", false
	}
	// The second field is the command's name in parentheses and may hold
	// anything, parentheses too; field 22 is the time.
	_, rest, ok := lastCut(string(text), ")")
	fields := strings.Fields(rest)
	const starttime = 22 - 3 // fields[0] is the third
	if !ok || len(fields) <= starttime {
		return "-", false
	}
	return fields[starttime], true
}

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

func lastCut(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}
