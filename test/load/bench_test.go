package load

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkRequest is what the client itself costs: both ends of a request on
// loopback, the other one answering without looking.
func BenchmarkRequest(b *testing.B) {
	for _, kept := range []bool{true, false} {
		b.Run(map[bool]string{true: "kept", false: "new"}[kept], func(b *testing.B) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			var server sync.WaitGroup
			server.Go(func() {
				for {
					c, err := listener.Accept()
					if err != nil {
						return
					}
					buf := make([]byte, 4096)
					for {
						if _, err := c.Read(buf); err != nil {
							break
						}
						_, _ = io.WriteString(c, ok)
						if !kept {
							break
						}
					}
					c.Close()
				}
			})
			ctx, cancel := context.WithCancel(b.Context())
			plan := Plan{Addr: listener.Addr().String(), Kept: 1}
			if !kept {
				plan.Kept, plan.Fresh = 0, 1
			}
			left := atomic.Int64{}
			left.Store(int64(b.N))
			plan.Check = func(int, Header, []byte) error {
				if left.Add(-1) <= 0 {
					cancel()
				}
				return nil
			}
			b.ReportAllocs()
			b.ResetTimer()
			if r := Run(ctx, plan); r.Failed() != 0 {
				b.Fatal(r)
			}
			b.StopTimer()
			listener.Close()
			server.Wait()
		})
	}
}
