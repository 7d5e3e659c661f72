package session

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
)

// secretBytes of randomness are in a secret.
const secretBytes = 16

// NewSecret makes what a worker proves itself with: 32 hex digits. It is valid
// as long as the worker lives.
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

// proves tells whether that is the secret of the worker that is expected.
func (e *Expect) proves(secret string) bool {
	if e.adopted() {
		return secret != "" && sameSecret(e.SecretHash, HashSecret(secret))
	}
	return sameSecret(e.Secret, secret)
}

// adopted: an earlier master has started it.
func (e *Expect) adopted() bool { return e.Secret == "" && e.SecretHash != "" }

// sameSecret takes the same time wherever the two differ.
func sameSecret(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
