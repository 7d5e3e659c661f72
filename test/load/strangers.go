package load

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	strangers      = 4                     // who make one request after the other
	strangersApart = 10 * time.Millisecond // between two of theirs
	strangersWait  = 20 * time.Second      // for an answer
)

// Strangers are clients who make each request on a connection of its own, and forgive what they
// are answered, as long as they are. They are for versions that are meant to have errors.
type Strangers struct {
	errors, lost atomic.Int64
	cancel       context.CancelFunc
	all          sync.WaitGroup
}

// NewStrangers starts some, at most 400 requests a second, for / at a HOST:PORT. They end with
// Stop.
func NewStrangers(addr string) *Strangers {
	s := &Strangers{}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: strangersWait}
	for range strangers {
		s.all.Go(func() { s.run(ctx, c, "http://"+addr+"/") })
	}
	return s
}

func (s *Strangers) run(ctx context.Context, c *http.Client, url string) {
	apart := time.NewTicker(strangersApart)
	defer apart.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-apart.C:
		}
		res, err := c.Get(url)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		}
		switch {
		case err != nil:
			s.lost.Add(1)
		case res.StatusCode >= http.StatusInternalServerError:
			s.errors.Add(1)
		}
	}
}

// Stop returns when all have ended: how many requests were answered with an error, and how many
// had no answer, or not all of it.
func (s *Strangers) Stop() (errors, lost int64) {
	s.cancel()
	s.all.Wait()
	return s.errors.Load(), s.lost.Load()
}
