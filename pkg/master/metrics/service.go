package metrics

import (
	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/counters"
)

// Of the service as a whole. Counters are monotonic over reloads, deaths of workers and changes
// of the master.
var (
	buildInfo = gauge("masterd_build_info",
		"The masterd that runs; always 1.", "version")
	state = gauge("masterd_service_state",
		"1 for the state that the service is in, 0 for all others.", "state")
	info = gauge("masterd_service_info",
		"The service; always 1.", "service", "environment")
	since = gauge("masterd_start_time_seconds",
		"When this master began, in seconds since the epoch.")
	held = gauge("masterd_hold",
		"1 while reloads are held, by masterd hold.")
	differs = gauge("masterd_file_differs",
		"1 while what is on disk is not what runs.")

	requests = counter("http_requests_total",
		"Requests that have their answer, by the class of its status (2xx). A handler that panicked counts as "+
			"5xx. Workers with the SDK count them.", "listener", "route", "status")
	durations = other("http_request_duration_seconds",
		"How long handlers took, without requests that became something else (101).", "listener", "route")
	bytesIn = counter("http_request_body_bytes_total",
		"Bytes of requests' bodies, as their Content-Length says.", "listener", "route")
	bytesOut = counter("http_response_body_bytes_total",
		"Bytes of answers' bodies.", "listener", "route")

	accepted = counter("masterd_connections_accepted_total",
		"Connections that workers with the SDK have accepted.", "listener")
	handedOver = counter("masterd_connections_handed_over_total",
		"Connections that moved to another worker and stayed open.")
	cut = counter("masterd_connections_cut_total",
		"Connections that were closed because a drain was at its end.")
	lost = counter("masterd_connections_lost_total",
		"Connections that were open in workers that died.")
	refused = counter("masterd_connections_refused_total",
		"Connections that were reset, as their address had too many.")
	slow = counter("masterd_slow_bodies_total",
		"Requests whose bodies came too slowly.")

	events = counter("masterd_app_events_total",
		"What the program counts itself, by worker.Count.", "name")
	observed = other("masterd_app_value",
		"What the program observes itself, by worker.Observe.", "name")
)

// states are all that a service can be in, as [api.Status] has them.
var states = []string{"serving", "degraded", "starting", "stopping", "down"}

func (s sink) service(st api.Status, c counters.Snapshot) {
	for _, is := range states {
		s.send(state, one(st.State == is), is)
	}
	s.send(info, 1, st.Service, st.Environment)
	s.send(since, unix(st.Master.Since))
	s.send(held, one(st.Hold != nil))
	s.send(differs, one(st.FileDiffers != ""))

	t := c.Service
	for k, r := range t.Routes {
		for i, n := range r.Status {
			s.send(requests, float64(n), k.Listener, k.Route, classes[i])
		}
		s.latency(durations, r, k.Listener, k.Route)
		s.send(bytesIn, float64(r.BytesIn), k.Listener, k.Route)
		s.send(bytesOut, float64(r.BytesOut), k.Listener, k.Route)
	}
	for listener, n := range t.Accepted {
		s.send(accepted, float64(n), listener)
	}
	s.send(handedOver, float64(t.HandedOver))
	s.send(cut, float64(t.Cut))
	s.send(lost, float64(t.Lost))
	s.send(refused, float64(t.Refused))
	s.send(slow, float64(t.SlowBodies))
	for name, m := range t.Measures {
		if m.Observed > 0 {
			s.summary(observed, m.Observed, m.Sum, name)
		} else {
			s.send(events, float64(m.Total), name)
		}
	}
}
