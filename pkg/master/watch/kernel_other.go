//go:build !linux

package watch

// openForWriting is not known here.
func openForWriting(string) bool { return false }

// remote is not known here.
func remote(string) string { return "" }
