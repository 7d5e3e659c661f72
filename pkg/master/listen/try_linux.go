package listen

import (
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/process"
)

// Try says why a running service could not open a listener besides those that it
// has, an [*Error]. Nothing listens meanwhile, so nobody's connections are disturbed.
// ours are the processes that hold the service's sockets: an address that is within
// one of theirs, or around it, can be opened.
func Try(c config.Listener, ours []int) error {
	o := opener{mine: map[uint64]string{}}
	for _, pid := range ours {
		all, _ := process.Sockets(pid) // none of one that may not be looked at
		for _, inode := range all {
			o.mine[inode] = "masterd, for another listener"
		}
	}
	if err := o.try(c); err != nil {
		return asError(c, err)
	}
	return nil
}

func (o opener) try(c config.Listener) error {
	if c.Network == "unix" {
		if _, err := accessOf(c); err != nil {
			return err
		}
		return claim(c.Path)
	}
	at, dual, err := steer.Resolve(c)
	if err != nil {
		return err
	}
	_, err = o.proveFree(at, dual)
	return err
}
