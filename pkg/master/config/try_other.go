//go:build !linux

package config

// noExec is not known here.
func noExec(string) bool { return false }

// hasCapabilities is never true: files have none here.
func hasCapabilities(string) bool { return false }

// hasACL is true: whether more than the mode decides is not known here.
func hasACL(string) bool { return true }
