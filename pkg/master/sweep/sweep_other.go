//go:build !linux

package sweep

import (
	"errors"
	"time"
)

var errLinux = errors.New("there are control groups on Linux only")

// Own is the group of this process.
func Own() (Group, error) { return Group{}, errLinux }

// Left are the processes of a group without this one.
func Left(Group) ([]int, error) { return nil, errLinux }

// End asks the processes of a group to end.
func End(Group, time.Duration, []int) (asked, killed int, err error) { return 0, 0, errLinux }
