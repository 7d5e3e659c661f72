package session

import (
	"crypto/rand"
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

// sameSecret takes the same time wherever the two differ.
func sameSecret(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
