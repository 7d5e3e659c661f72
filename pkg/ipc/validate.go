package ipc

import (
	"errors"
	"fmt"
	"strconv"
)

// Validate says what a message of a known type lacks: its body, a value in it
// that has no default, the seq of a request or of an answer. A message of an
// unknown type is valid if it has a type at all: a newer peer may send it.
func (m Message) Validate() error {
	switch m.Type {
	case "":
		return errors.New("a message without a type")
	case TypeHello:
		return m.need(m.Hello != nil && m.Hello.Min >= 1 && m.Hello.Max >= m.Hello.Min && m.Hello.Worker >= 1 && m.Hello.PID >= 1 && m.Hello.Secret != "",
			"a hello with 1 <= min <= max, worker >= 1, pid >= 1 and a secret")
	case TypeWelcome:
		return m.need(m.Welcome != nil && m.Welcome.Version >= 1 && m.Welcome.BeatMS >= 1, "a welcome with version >= 1 and beat_ms >= 1")
	case TypeReject:
		return m.need(m.Text != "", "a text that says why")
	case TypeRefused:
		return m.need(m.Seq >= 1 && m.Text != "", "the seq of what was refused and a text that says why")
	case TypeBeat:
		return m.need(m.Stats != nil, "stats")
	case TypeAccepting, TypePaused, TypeParked, TypeRenewed:
		return m.need(m.Seq >= 1, "the seq of the request that it answers")
	case TypeActivate, TypePause, TypeResume, TypePark, TypeAnnounce, TypeDump, TypeStay, TypeTaken, TypeLater, TypeYours, TypeMine:
		return m.need(m.Seq >= 1, "a seq")
	case TypeRenew:
		return m.need(m.Seq >= 1 && m.Renew != nil && m.Renew.Secret != "", "a seq and a renew with a secret")
	case TypeDrain:
		return m.need(m.Seq >= 1 && m.Drain != nil && m.Drain.TimeoutMS >= 0, "a seq and a drain with timeout_ms >= 0")
	case TypeConn:
		return m.need(m.Seq >= 1 && m.Conn != nil && m.Conn.Listener != "" && m.Conn.Purpose != "", "a seq and a conn with listener and purpose")
	case TypeGive, TypeTake:
		return m.need(m.Seq >= 1 && m.Peer != nil && m.Peer.Worker >= 1, "a seq and a peer with a worker")
	case TypeSplit:
		return m.need(m.Seq >= 1 && m.Peer != nil && m.Peer.Worker >= 1 &&
			m.Split != nil && m.Split.Rollout >= 1 && m.Split.Weight >= 1 && m.Split.Weight <= Whole,
			"a seq, a peer with a worker, and a split with a rollout and 1 <= weight <= "+strconv.Itoa(Whole))
	case TypeCompare:
		return m.need(m.Seq >= 1 && (m.Compare == nil || m.Compare.valid()),
			"a seq, and a compare with id >= 1, since >= 0, at most "+strconv.Itoa(MaxSlowRoutes)+" slow routes of ns >= 1 and "+
				strconv.Itoa(MaxCompared)+" measures, or none")
	case TypeOffer:
		return m.need(m.Seq >= 1 && m.Offer != nil && m.Offer.Listener != "" && len(m.Offer.State)+len(m.Offer.Unread) <= MaxParcel,
			"a seq and an offer with a listener, and at most "+strconv.Itoa(MaxParcel)+" bytes of state and unread")
	case TypeKeep, TypeFetch, TypeForget, TypeKept, TypeBlob:
		return m.blobNeed()
	}
	return nil // ready, drained, and what is not known here
}

func (m Message) need(ok bool, what string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("message %q needs %s", m.Type, what)
}

// fdUse is what a type of message does with descriptors.
type fdUse uint8

const (
	noFDs      fdUse = iota // none belong to it
	namedFDs                // one for each name in activate.listeners
	someFDs                 // at least one
	oneFD                   // exactly one
	unknownFDs              // a type not known here: for the receiver to decide
)

func (m Message) fdUse() fdUse {
	switch m.Type {
	case TypeActivate:
		return namedFDs
	case TypeConn:
		return someFDs
	case TypeGive, TypeSplit, TypeTake, TypeKeep:
		return oneFD
	case TypeOffer:
		if m.Offer != nil && m.Offer.Kind != "" {
			return oneFD
		}
		return someFDs
	case TypeBlob:
		if m.Blob != nil && m.Blob.None {
			return noFDs
		}
		return oneFD
	case TypeHello, TypeReady, TypeAccepting, TypePaused, TypeParked, TypeBeat, TypeDrained, TypeRefused,
		TypeWelcome, TypeReject, TypePause, TypeResume, TypePark, TypeAnnounce, TypeDrain, TypeDump,
		TypeStay, TypeTaken, TypeLater, TypeYours, TypeMine, TypeFetch, TypeForget, TypeKept, TypeRenew, TypeRenewed,
		TypeCompare:
		return noFDs
	}
	return unknownFDs
}

// checkFDs says whether so many descriptors belong beside the message.
func (m Message) checkFDs(n int) error {
	if n > MaxFDs {
		return fmt.Errorf("message %q with %d descriptors: the protocol allows %d", m.Type, n, MaxFDs)
	}
	switch m.fdUse() {
	case noFDs:
		if n != 0 {
			return fmt.Errorf("message %q with %d descriptors: it carries none", m.Type, n)
		}
	case namedFDs:
		names := 0
		if m.Activate != nil {
			names = len(m.Activate.Listeners)
		}
		if names != n {
			return fmt.Errorf("message %q with %d descriptors for %d listeners", m.Type, n, names)
		}
	case someFDs:
		if n == 0 {
			return fmt.Errorf("message %q without a descriptor", m.Type)
		}
	case oneFD:
		if n != 1 {
			return fmt.Errorf("message %q with %d descriptors: it carries one", m.Type, n)
		}
	}
	return nil
}
