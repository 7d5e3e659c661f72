//go:build !linux

package keeper

import "errors"

// Client is a master's connection to its keeper; on this system there is none.
type Client struct{}

// Main returns: no process is a keeper here.
func Main(func(dir string)) {}

// Join needs Linux.
func Join(Options) (*Client, []Held, error) { return nil, nil, errors.ErrUnsupported }

// Put needs Linux.
func (c *Client) Put(name string, meta []byte, fd int) error { return errors.ErrUnsupported }

// Drop needs Linux.
func (c *Client) Drop(name string) error { return errors.ErrUnsupported }

// PID is zero.
func (c *Client) PID() int { return 0 }

// Guard needs Linux.
func (c *Client) Guard(Guard) error { return errors.ErrUnsupported }

// Unguard needs Linux.
func (c *Client) Unguard() error { return errors.ErrUnsupported }

// End needs Linux.
func (c *Client) End() error { return errors.ErrUnsupported }

// Leave does nothing.
func (c *Client) Leave() {}
