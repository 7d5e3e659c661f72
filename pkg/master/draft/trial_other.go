//go:build !linux

package draft

import "context"

// Once needs Linux.
func (p *Program) Once(context.Context, []string) (*Trial, error) { return nil, ErrCalls }
