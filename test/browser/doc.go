// Package browser drives the live page with a real Chromium: first with a master that is played,
// which can be in any state, then with a real one. It is a module of its own, because what it
// needs is nobody else's business.
package browser
