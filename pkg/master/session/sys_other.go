//go:build !linux

package session

import "errors"

// Nothing here is reached: without Linux there is no control socket.

func dupFD(int) (int, error) { return -1, errors.ErrUnsupported }
func processGroup(int) int   { return -1 }
