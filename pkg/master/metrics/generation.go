package metrics

import (
	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

var memoryAvailable = gauge("masterd_memory_available_bytes",
	"The least of what the machine and the master's cgroup have left.")

var memoryLow = gauge("masterd_memory_low",
	"1 while so little memory is left that a parked generation is ended for it.")

// Of generations, as long as there are workers of them.
var (
	phase = gauge("masterd_generation_phase",
		"1 for the phase that the generation is in.", "generation", "version", "phase")
	share = gauge("masterd_generation_weight_ratio",
		"The generation's share of new connections, 0 to 1.", "generation", "version")
	workers = gauge("masterd_generation_workers",
		"Workers of the generation by their phase.", "generation", "version", "phase")
	ailing = gauge("masterd_generation_unhealthy_workers",
		"Active workers that fail their checks.", "generation", "version")

	generationRequests = counter("masterd_generation_requests_total",
		"Requests that the generation's workers have answered, of all routes.",
		"generation", "version", "listener", "status")
	generationDurations = other("masterd_generation_request_duration_seconds",
		"How long the generation's handlers took.", "generation", "version", "listener")
	inFlight = gauge("masterd_generation_requests_in_flight",
		"Requests that run.", "generation", "version", "listener")
	open = gauge("masterd_generation_connections",
		"Connections that are open.", "generation", "version", "listener")
)

// Of workers.
var (
	rss = gauge("masterd_worker_resident_memory_bytes",
		"Memory of all its processes; what they share counts for each.", "generation", "version", "worker")
	cpu = counter("masterd_worker_cpu_seconds_total",
		"Processor time of all its processes, with those that they have waited for.",
		"generation", "version", "worker")
	fds = gauge("masterd_worker_open_fds",
		"Descriptors of all its processes.", "generation", "version", "worker")
	maxFDs = gauge("masterd_worker_max_fds",
		"Descriptors that each of its processes may have.", "generation", "version", "worker")
	fdRatio = gauge("masterd_worker_fds_ratio",
		"How much of its limit of descriptors that of its processes has which is nearest to it, 0 to 1.",
		"generation", "version", "worker")
	processes = gauge("masterd_worker_processes",
		"Processes of the worker.", "generation", "version", "worker")
	check = gauge("masterd_worker_check_duration_seconds",
		"How long the worker's last check took.", "generation", "version", "worker")
	longest = gauge("masterd_worker_longest_request_seconds",
		"For how long the request has run that has run longest.", "generation", "version", "worker")
	deadline = gauge("masterd_worker_phase_deadline_seconds",
		"When the worker's phase must have ended, in seconds since the epoch.",
		"generation", "version", "worker", "phase")
	flying = gauge("masterd_worker_requests_in_flight",
		"Requests that run.", "generation", "version", "worker")
	limit = gauge("masterd_worker_max_requests_in_flight",
		"Requests that the program says it is made for at one time.", "generation", "version", "worker")
	goroutines = gauge("masterd_worker_goroutines",
		"Goroutines of a worker with the SDK.", "generation", "version", "worker")
	heap = gauge("masterd_worker_heap_bytes",
		"Bytes of objects on the heap of a worker with the SDK.", "generation", "version", "worker")
	gcs = other("masterd_worker_gc_pause_seconds",
		"How often, and for how long in all, collections stopped a worker with the SDK.",
		"generation", "version", "worker")
	gcLongest = gauge("masterd_worker_gc_pause_max_seconds",
		"The longest pause of a collection within the last minute or two, of a worker with the SDK.",
		"generation", "version", "worker")
	last = gauge("masterd_app_value_last",
		"The last value that the worker's program has observed, by worker.Observe.",
		"generation", "version", "worker", "name")
)

func (s sink) generations(st api.Status, c counters.Snapshot) {
	for _, g := range st.Generations {
		id := []string{number(g.ID), g.Version.Label}
		with := func(more ...string) []string { return append(id[:2:2], more...) }
		s.send(phase, 1, with(g.Phase)...)
		s.send(share, max(g.Share, float64(g.Weight))/100, with()...)
		phases, sick := map[string]int{}, 0
		now := map[string]ipc.ListenerCounts{}
		for _, w := range g.Workers {
			phases[w.Phase]++
			if w.Phase == "active" && !w.Healthy {
				sick++
			}
			said, heard := c.Workers[w.ID]
			for _, l := range said.Listeners {
				sum := now[l.Listener]
				sum.InFlight += l.InFlight
				sum.Open += l.Open
				now[l.Listener] = sum
			}
			s.worker(w, said, heard, with)
		}
		for is, n := range phases {
			s.send(workers, float64(n), with(is)...)
		}
		s.send(ailing, float64(sick), with()...)
		for listener, n := range now {
			s.send(inFlight, float64(n.InFlight), with(listener)...)
			s.send(open, float64(n.Open), with(listener)...)
		}
		for listener, r := range byListener(c.Generations[g.ID]) {
			for i, n := range r.Status {
				s.send(generationRequests, float64(n), with(listener, classes[i])...)
			}
			s.latency(generationDurations, r, with(listener)...)
		}
	}
}

// byListener are the sums of all routes.
func byListener(t counters.Totals) map[string]*counters.Route {
	all := map[string]*counters.Route{}
	for k, r := range t.Routes {
		sum := all[k.Listener]
		if sum == nil {
			sum = &counters.Route{}
			all[k.Listener] = sum
		}
		for i, n := range r.Status {
			sum.Status[i] += n
		}
		for i, n := range r.Latency {
			sum.Latency[i] += n
		}
		sum.NS += r.NS
	}
	return all
}

// worker is one worker, what it said of itself at its last beat, and whether it has said anything.
func (s sink) worker(w api.Worker, said counters.Worker, heard bool, with func(...string) []string) {
	id := number(w.ID)
	if w.PID != 0 {
		s.send(rss, float64(w.RSS), with(id)...)
		s.send(cpu, w.CPUSeconds, with(id)...)
		s.send(fds, float64(w.FDs), with(id)...)
		s.send(processes, float64(w.Processes), with(id)...)
		if w.FDLimit > 0 {
			s.send(maxFDs, float64(w.FDLimit), with(id)...)
			s.send(fdRatio, w.FDRatio, with(id)...)
		}
	}
	if !w.Deadline.IsZero() {
		s.send(deadline, unix(w.Deadline), with(id, w.Phase)...)
	}
	if w.ProbeMS > 0 {
		s.send(check, w.ProbeMS/1000, with(id)...)
	}
	if !w.Uncounted {
		s.send(longest, float64(w.LongestMS)/1000, with(id)...)
		s.send(flying, float64(w.InFlight), with(id)...)
	}
	if !heard {
		return
	}
	if said.MaxInFlight > 0 {
		s.send(limit, float64(said.MaxInFlight), with(id)...)
	}
	if said.Goroutines > 0 {
		s.send(goroutines, float64(said.Goroutines), with(id)...)
	}
	if g := said.Go; g != nil {
		s.send(heap, float64(g.Heap), with(id)...)
		s.summary(gcs, g.GCs, float64(g.PauseNS)/1e9, with(id)...)
		s.send(gcLongest, float64(said.LongestPauseNS)/1e9, with(id)...)
	}
	for name, value := range said.Last {
		s.send(last, value, with(id, name)...)
	}
}
