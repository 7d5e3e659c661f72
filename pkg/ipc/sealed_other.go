//go:build !linux

package ipc

import "os"

// NewMemory needs Linux.
func NewMemory(string) (*os.File, error) { return nil, supported() }

// Seal needs Linux.
func Seal(*os.File) error { return supported() }

// CheckSealed needs Linux.
func CheckSealed(int, int64) error { return supported() }
