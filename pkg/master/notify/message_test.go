package notify

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		text string
		fds  int
		want Message
		err  error
	}{
		{text: "READY=1", want: Message{Ready: true}},
		{text: "READY=1\nSTATUS=serving 3 sites\n", want: Message{Ready: true, Status: "serving 3 sites", HasStatus: true}},
		{text: "RELOADING=1\nMONOTONIC_USEC=12345", want: Message{Reloading: true}},
		{text: "STOPPING=1\nSTATUS=", want: Message{Stopping: true, HasStatus: true}},
		{text: "X_MINE=a=b\n\nREADY=1", want: Message{Ready: true}},
		{text: "ERRNO=2\nMAINPID=4711", want: Message{Errno: 2, MainPID: 4711}},
		{text: "WATCHDOG=1", want: Message{Watchdog: true}},
		{text: "NOTIFYACCESS=none\nREADY=1", want: Message{Access: AccessNone, Ready: true}},
		{text: "NOTIFYACCESS=exec", want: Message{Access: AccessMain}},
		{text: "NOTIFYACCESS=everybody", want: Message{Problems: []string{`NOTIFYACCESS: "everybody" is not none, main, exec or all`}}},
		{text: "WATCHDOG=trigger", want: Message{Trigger: true}},
		{text: "WATCHDOG_USEC=1500000\nEXTEND_TIMEOUT_USEC=250000", want: Message{Every: 1500 * time.Millisecond, HasEvery: true, Extend: 250 * time.Millisecond}},
		{text: "FDSTORE=1\nFDNAME=cache\nFDPOLL=0", fds: 2, want: Message{Store: true, Name: "cache"}},
		{text: "FDSTOREREMOVE=1\nFDNAME=cache", want: Message{Remove: true, Name: "cache"}},
		{text: "BARRIER=1", fds: 1, want: Message{Barrier: true}},

		{text: "READY=yes\nSTATUS=a", want: Message{Status: "a", HasStatus: true, Problems: []string{`READY: "yes" is not 1`}}},
		{text: "STATUS=\xff\nREADY=1", want: Message{Ready: true, Problems: []string{"STATUS: it is not UTF-8"}}},
		{text: "MAINPID=1", want: Message{Problems: []string{`MAINPID: "1" is no worker's`}}},
		{text: "MAINPID=-4", want: Message{Problems: []string{`MAINPID: "-4" is no number up to 2147483647`}}},
		{text: "EXTEND_TIMEOUT_USEC=99999999999999999999", want: Message{Problems: []string{`EXTEND_TIMEOUT_USEC: "99999999999999999999" is no number up to 86400000000`}}},
		{text: "FDNAME=a:b", want: Message{Problems: []string{"FDNAME: a name has 1 to 255 printable ASCII characters, and no colon"}}},
		{text: "WATCHDOG=2", want: Message{Problems: []string{`WATCHDOG: "2" is neither 1 nor trigger`}}},

		{text: "", err: errEmpty},
		{text: "\n", err: errEmpty},
		{text: "READY=1\x00", err: errNUL},
		{text: "READY", err: errNoAssign},
		{text: "=1", err: errNoAssign},
		{text: "BARRIER=1", err: errBarrier},
		{text: "BARRIER=1\nREADY=1", fds: 1, err: errBarrier},
	} {
		got, err := Parse([]byte(c.text), c.fds)
		if !errors.Is(err, c.err) {
			t.Errorf("%q: %v, want %v", c.text, err, c.err)
			continue
		}
		c.want.Poll = !strings.Contains(c.text, "FDPOLL=0")
		if c.err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q:\n got %+v\nwant %+v", c.text, got, c.want)
		}
	}
}

// Whatever comes, it is a message within its limits or an error.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"READY=1\nSTATUS=x", "BARRIER=1", "FDSTORE=1\nFDNAME=a", "WATCHDOG_USEC=1", "MAINPID=99999999999", "EXTEND_TIMEOUT_USEC=18446744073709551615"} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, text []byte, fds int) {
		m, err := Parse(text, fds)
		if err != nil {
			return
		}
		if m.Extend < 0 || m.Extend > maxTime || m.Every < 0 || m.Every > maxTime || m.MainPID < 0 || m.MainPID == 1 || m.Errno < 0 {
			t.Errorf("%q: out of bounds: %+v", text, m)
		}
		if m.Name != "" && !speakable(m.Name) || m.Barrier && fds != 1 || strings.ContainsAny(m.Status, "\n\x00") {
			t.Errorf("%q: %+v", text, m)
		}
	})
}
