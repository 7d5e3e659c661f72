package counters

// Requests are those of all routes of the service together, since it began.
func (s *Set) Requests() (all Route) {
	for _, r := range s.service.Routes {
		all.add(r)
	}
	return all
}
