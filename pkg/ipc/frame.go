package ipc

import (
	"encoding/json"
	"fmt"
)

// ProtocolError says how what was received is not a message of this protocol.
type ProtocolError struct {
	Reason string
	Err    error // perhaps nil
}

func (e *ProtocolError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("not a message of the control protocol: %s: %v", e.Reason, e.Err)
	}
	return "not a message of the control protocol: " + e.Reason
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// encode makes the bytes of a message that goes out with so many descriptors.
func encode(m Message, fds int) ([]byte, error) {
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("message not sent: %w", err)
	}
	if err := m.checkFDs(fds); err != nil {
		return nil, fmt.Errorf("message not sent: %w", err)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("message %q not sent: %w", m.Type, err)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("message %q not sent: it has %d bytes, the protocol allows %d", m.Type, len(b), MaxMessage)
	}
	return b, nil
}

// decode reads the bytes of a message that came with so many descriptors.
func decode(b []byte, fds int, truncated bool) (Message, error) {
	switch {
	case len(b) > MaxMessage:
		return Message{}, &ProtocolError{Reason: fmt.Sprintf("longer than %d bytes", MaxMessage)}
	case truncated:
		// Too many descriptors, or more than this process may open.
		return Message{}, &ProtocolError{Reason: fmt.Sprintf("truncated by the kernel (more than %d descriptors, or this process has no room for them: see its limit of open files)", MaxFDs)}
	}
	var m Message
	if err := json.Unmarshal(b, &m); err != nil {
		return Message{}, &ProtocolError{Reason: fmt.Sprintf("%d bytes that are not its JSON", len(b)), Err: err}
	}
	if err := m.Validate(); err != nil {
		return Message{}, &ProtocolError{Reason: "incomplete", Err: err}
	}
	// Descriptors that nobody asked for are closed by Recv: a newer peer may
	// have a reason to send them. Missing ones leave nothing to work with.
	if m.fdUse() != noFDs {
		if err := m.checkFDs(fds); err != nil {
			return Message{}, &ProtocolError{Reason: "wrong descriptors", Err: err}
		}
	}
	return m, nil
}
