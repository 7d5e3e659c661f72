package worker_test

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/pkg/worker/ginworker"
)

// What a program with Gin has answered, and what it has counted itself, is with its master when
// it has drained.
func TestAGinProgramIsCounted(t *testing.T) {
	r := ginworker.New()
	r.GET("/users/:id", func(c *gin.Context) { c.String(http.StatusOK, c.Param("id")) })
	r.POST("/orders", func(c *gin.Context) {
		worker.Count("test_orders_failed", 2)
		c.String(http.StatusConflict, "sold out")
	})
	gin.DefaultErrorWriter = io.Discard
	r.GET("/panic", func(*gin.Context) { panic("which Gin recovers from") })
	for name, h2 := range map[string]bool{"HTTP/1": false, "h2c": true} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			m, ended := begin(t, r, worker.H2C())
			m.activate(ln)
			p := new(http.Protocols)
			p.SetHTTP1(!h2)
			p.SetUnencryptedHTTP2(h2)
			tr := &http.Transport{Protocols: p}
			for _, ask := range [][2]string{{"GET", "/users/17"}, {"GET", "/users/4"}, {"POST", "/orders"}, {"GET", "/panic"}, {"GET", "/nowhere"}} {
				req, err := http.NewRequest(ask[0], "http://"+ln.Addr().String()+ask[1], nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := (&http.Client{Transport: tr, Timeout: patience}).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			tr.CloseIdleConnections()
			m.send(ipc.Message{Type: ipc.TypeDrain, Drain: &ipc.Drain{}})
			routes, measures := m.everything()
			for route, want := range map[string]ipc.RouteCounts{
				"GET /users/:id": {Status: [5]uint64{0, 2}, BytesOut: 3},
				"POST /orders":   {Status: [5]uint64{0, 0, 0, 1}, BytesOut: 8},
				"GET /panic":     {Status: [5]uint64{0, 0, 0, 0, 1}},
				"other":          {Status: [5]uint64{0, 0, 0, 1}, BytesOut: 18},
			} {
				if got := routes[route]; got.Status != want.Status || got.BytesOut != want.BytesOut || len(got.Latency) == 0 {
					t.Errorf("%s: %+v, wanted %+v", route, got, want)
				}
			}
			if len(routes) != 4 || measures["test_orders_failed"].Total == 0 {
				t.Errorf("%+v, %+v", routes, measures)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatalf("Run has not returned\n%s", stacks())
			}
			leavesNothing(t)
		})
	}
}

// everything is what the worker says until it has drained.
func (m *master) everything() (map[string]ipc.RouteCounts, map[string]ipc.MeasureCounts) {
	m.t.Helper()
	routes, measures := make(map[string]ipc.RouteCounts), make(map[string]ipc.MeasureCounts)
	m.link.SetReadDeadline(time.Now().Add(patience))
	for {
		msg, fds, err := m.link.Recv()
		fdpass.Close(fds...)
		if err != nil || msg.Counts == nil && msg.Type != ipc.TypeBeat { // one that comes before another was read has none
			m.t.Fatalf("%+v, %v\n%s", msg, err, stacks())
		}
		if msg.Counts == nil {
			continue
		}
		for _, r := range msg.Counts.Routes {
			routes[r.Route] = r
		}
		for _, c := range msg.Counts.Measures {
			measures[c.Name] = c
		}
		if msg.Type == ipc.TypeDrained {
			return routes, measures
		}
	}
}
