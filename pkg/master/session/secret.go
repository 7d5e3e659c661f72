package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"

	"github.com/masterd/masterd/pkg/ipc"
)

// secretBytes of randomness are in a secret.
const secretBytes = 16

// NewSecret makes what a worker proves itself with: 32 hex digits. It is valid until
// the worker has another one, see [Session.Renew]; one whose SDK speaks version 1 of
// the protocol keeps it.
func NewSecret() string {
	b := make([]byte, secretBytes)
	_, _ = rand.Read(b) // never fails: it ends the process rather than be predictable
	return hex.EncodeToString(b)
}

// HashSecret is what a master may write down of a secret: who reads it cannot
// pose as the worker.
func HashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Renew sends the worker another secret. What it has had so far is void as soon as it
// says that it has the new one ([Renewed]), or proves itself with it. Before the call
// [HashSecret] of both has been written down, so that the next master, too, knows the
// worker by either.
func (s *Session) Renew(secret string) error {
	s.mu.Lock()
	s.next = HashSecret(secret)
	s.mu.Unlock()
	return s.send(ipc.Message{Type: ipc.TypeRenew, Renew: &ipc.Renew{Secret: secret}}, nil)
}

// proves tells whether that is the secret of the worker that is expected.
func (s *Session) proves(secret string) bool {
	hash := HashSecret(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	return secret != "" && (sameSecret(s.proof, hash) || sameSecret(s.next, hash))
}

// renewed makes the secret that the worker was sent its only one, because it has said
// so, or because it has shown it (by is that; empty: it has said so). It reports
// whether that is news.
func (s *Session) renewed(by string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == "" || by != "" && !sameSecret(s.next, HashSecret(by)) {
		return false
	}
	s.proof, s.next = s.next, ""
	return true
}

// adopted: an earlier master has started it.
func (e *Expect) adopted() bool { return e.Secret == "" && e.SecretHash != "" }

// sameSecret takes the same time wherever the two differ.
func sameSecret(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
