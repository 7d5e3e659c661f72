package session

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/ipc"
)

// Kind says what a Fact is about.
type Kind uint8

const (
	// Connected: hello was accepted. Each Connected but the last is followed by
	// one Lost before the next; Hello is set. If the worker has been ready
	// before (it reconnects), Ready follows, and Accepting if it is active and
	// had been told so, by us or an earlier master: what was said on a connection
	// that broke is not missed.
	Connected Kind = iota + 1
	// Ready: it can serve.
	Ready
	// Accepting answers Activate and Resume. An answer to an older Activate
	// than the last is dropped.
	Accepting
	// Paused answers Pause.
	Paused
	// Parked answers Park.
	Parked
	// Beat: it is alive; Stats is set, Counts may be.
	Beat
	// Drained: nothing is open in it any more and it exits by itself; Stats and
	// Counts may be set.
	Drained
	// Refused: it could not follow the request with this Seq; Text says why.
	Refused
	// Keep, Fetch and Forget ask for something to be done with a blob; Blob is
	// set. The Seq is the worker's own. Answers: Kept, Blob, Refuse.
	Keep
	Fetch
	Forget
	// Renewed: it has the secret that [Session.Renew] sent, and the one before is void.
	// It may come before Connected.
	Renewed
	// Lost: the connection is gone; Text says why. The worker may connect
	// again. A worker that exits loses its connection too.
	Lost
)

func (k Kind) String() string {
	switch k {
	case Connected:
		return "connected"
	case Ready:
		return "ready"
	case Accepting:
		return "accepting"
	case Paused:
		return "paused"
	case Parked:
		return "parked"
	case Beat:
		return "beat"
	case Drained:
		return "drained"
	case Refused:
		return "refused"
	case Keep:
		return "keep"
	case Fetch:
		return "fetch"
	case Forget:
		return "forget"
	case Renewed:
		return "renewed"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Fact is something that a worker said, or that became of its connection.
type Fact struct {
	Kind   Kind
	Seq    uint64      // of the request that it answers; zero: none
	Stats  *ipc.Stats  // Beat always, Drained perhaps
	Counts *ipc.Counts // Beat and Drained perhaps; unchecked
	Text   string      // Refused, Lost: why; printable, at most 1 KiB
	Hello  *ipc.Hello  // Connected: what it said of itself, without the secret
	Blob   *ipc.Blob   // Keep, Fetch, Forget
	FD     int         // Keep: the memory, as it came; the callback's to close
}

// kindOf says which fact a message from a worker is; false: none.
func kindOf(t ipc.Type) (Kind, bool) {
	switch t {
	case ipc.TypeReady:
		return Ready, true
	case ipc.TypeAccepting:
		return Accepting, true
	case ipc.TypePaused:
		return Paused, true
	case ipc.TypeParked:
		return Parked, true
	case ipc.TypeBeat:
		return Beat, true
	case ipc.TypeDrained:
		return Drained, true
	case ipc.TypeRefused:
		return Refused, true
	case ipc.TypeRenewed:
		return Renewed, true
	}
	return 0, false
}

// fromMaster says whether only masters send this.
func fromMaster(t ipc.Type) bool {
	switch t {
	case ipc.TypeWelcome, ipc.TypeReject, ipc.TypeActivate, ipc.TypePause, ipc.TypeResume,
		ipc.TypePark, ipc.TypeAnnounce, ipc.TypeDrain, ipc.TypeConn, ipc.TypeDump,
		ipc.TypeGive, ipc.TypeSplit, ipc.TypeStay, ipc.TypeTake, ipc.TypeRenew,
		ipc.TypeKept, ipc.TypeBlob, ipc.TypeCompare:
		return true
	}
	return false
}

// printable makes a worker's text fit for an operator's terminal: one line, no
// control characters, not endless.
func printable(s string) string {
	if len(s) > maxText {
		s = s[:maxText]
		for len(s) > 0 {
			if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
				break
			}
			s = s[:len(s)-1] // a character that the cut went through
		}
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
