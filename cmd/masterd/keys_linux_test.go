package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

func TestKeysIn(t *testing.T) {
	want := []key{keyUp, keyDown, keyPageUp, keyPageDown, keyHome, keyEnd, keyUp, keyQuit}
	if got := keysIn("\x1b[A\x1b[B\x1b[5~x\x1b[6~\x1b[H\x1b[F\x1bOAé\x1bq"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// terminalPair is a terminal and what is behind it.
func terminalPair(t *testing.T) (behind, terminal *os.File) {
	t.Helper()
	behind, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(behind.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(behind.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { behind.Close(); terminal.Close() })
	return behind, terminal
}

// On a real terminal: a key or a signal ends it, a change of its size is seen, and the
// terminal is as it was.
func TestWatchOnATerminal(t *testing.T) {
	for name, end := range map[string]func(*os.Process, *os.File) error{
		"q":    func(_ *os.Process, behind *os.File) error { _, err := behind.WriteString("q"); return err },
		"INT":  func(p *os.Process, _ *os.File) error { return p.Signal(syscall.SIGINT) },
		"TERM": func(p *os.Process, _ *os.File) error { return p.Signal(syscall.SIGTERM) },
		"HUP":  func(p *os.Process, _ *os.File) error { return p.Signal(syscall.SIGHUP) },
		"QUIT": func(p *os.Process, _ *os.File) error { return p.Signal(syscall.SIGQUIT) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCLI(t)
			c.service("shop", &admintest.Backend{StatusIs: sixteenStatus()})
			behind, terminal := terminalPair(t)
			size := func(rows, columns uint16) {
				if err := unix.IoctlSetWinsize(int(behind.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
					t.Fatal(err)
				}
			}
			size(12, 90)
			was, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "status", "--watch")
			cmd.Env = []string{asMasterd + "=" + c.dir, "NO_COLOR=1", "TMPDIR=" + c.dir}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
			out := newGrowing()
			go io.Copy(out, behind) // ends when the terminal is closed
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			out.await(t, "1 to 10 of ", 1)
			if now, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); err != nil || now.Lflag&(unix.ICANON|unix.ECHO) != 0 {
				t.Errorf("the keyboard waits for a line: %v", err)
			}
			size(9, 90)
			_ = cmd.Process.Signal(syscall.SIGWINCH) // it is not in a session of this terminal
			out.await(t, "1 to 7 of ", 1)
			if err := end(cmd.Process, behind); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
			out.await(t, screenLeave, 1)
			if text := out.String(); !strings.HasSuffix(text, screenLeave) {
				t.Errorf("after the end there is more: %q", text[max(0, len(text)-100):])
			}
			now, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
			if err != nil || *now != *was {
				t.Errorf("the terminal was %+v and is %+v, %v", was, now, err)
			}
		})
	}
}
