//go:build !linux

package main

import (
	"context"
	"os"
)

// terminalKeys: there are none here.
func terminalKeys(context.Context) (<-chan key, <-chan os.Signal, func()) { return nil, nil, func() {} }
