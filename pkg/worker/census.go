package worker

import "sync"

// census knows every open connection of one kind. http.Server knows some of
// them too, but forgets those that were hijacked, and its ConnState hook can
// say "closed" twice; a member of the census leaves it once.
type census struct {
	empty func() // called when the last member has left

	mu      sync.Mutex
	members map[member]struct{}
	joined  uint64
}

// member is an open connection.
type member interface {
	// cut closes the connection whatever it does.
	cut()
	// move is what lets it leave for another worker; nil: nothing does.
	move() *mover
}

func newCensus(empty func()) *census {
	return &census{empty: empty, members: make(map[member]struct{})}
}

func (c *census) join(m member) {
	c.mu.Lock()
	c.members[m] = struct{}{}
	c.joined++
	c.mu.Unlock()
}

// leave may be called again; only the first counts.
func (c *census) leave(m member) {
	c.mu.Lock()
	_, was := c.members[m]
	delete(c.members, m)
	last := was && len(c.members) == 0
	c.mu.Unlock()
	if last {
		c.empty()
	}
}

func (c *census) open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.members)
}

func (c *census) total() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.joined
}

func (c *census) all() []member {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]member, 0, len(c.members))
	for m := range c.members {
		all = append(all, m)
	}
	return all
}

// movers are those that could leave by a handover.
func (c *census) movers() []*mover {
	var ms []*mover
	for _, m := range c.all() {
		if mv := m.move(); mv != nil {
			ms = append(ms, mv)
		}
	}
	return ms
}

// closeAll cuts everybody and says how many there were.
func (c *census) closeAll() int {
	all := c.all()
	for _, m := range all {
		m.cut()
	}
	return len(all)
}
