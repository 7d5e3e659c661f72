package counters

// Requests are those of all routes of the service together, since it began.
func (s *Set) Requests() Route {
	return s.service.requests()
}

// RequestsOf are those of each generation.
func (s *Set) RequestsOf() map[uint64]Route {
	all := make(map[uint64]Route, len(s.generations))
	for g, t := range s.generations {
		all[g] = t.requests()
	}
	return all
}

func (t *totals) requests() (all Route) {
	for _, r := range t.Routes {
		all.add(r)
	}
	return all
}
