//go:build !linux

package atomicfile

import (
	"errors"
	"os"
)

func exchange(string, string) error { return errors.ErrUnsupported }

func reserve(*os.File, int64) {}
