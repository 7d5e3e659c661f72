package metrics

import (
	"github.com/masterd/masterd/pkg/api"
)

// Of listeners.
var (
	queue = gauge("masterd_accept_queue_length",
		"Connections that wait to be accepted.", "listener")
	queueLimit = gauge("masterd_accept_queue_limit",
		"Connections that may wait to be accepted.", "listener")
	repairs = counter("masterd_listener_repairs_total",
		"How often the listener's sockets or steering were changed by others and mended.", "listener")
	overflows = counter("masterd_listen_overflows_total",
		"Connections that found a full accept queue, of all programs in the master's network namespace.")
	drops = counter("masterd_listen_drops_total",
		"Connections that were dropped before they were accepted, of all programs in the master's network "+
			"namespace.")
)

func (s sink) listeners(st api.Status) {
	for _, l := range st.Listeners {
		s.send(queue, float64(l.Queue), l.Name)
		s.send(queueLimit, float64(l.QueueLimit), l.Name)
		s.send(repairs, float64(l.Drift), l.Name)
	}
	if over, dropped, ok := listenOverflows(); ok {
		s.send(overflows, over)
		s.send(drops, dropped)
	}
}
