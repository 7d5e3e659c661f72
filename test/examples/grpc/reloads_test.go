//go:build linux

// Package grpc tries examples/grpc: reloads under calls and streams.
package grpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

const (
	example     = "../../../examples/grpc"
	serviceName = "example.Talk" // as it names itself

	reloads  = 10
	callers  = 6                // that make unary calls, each on a connection of its own
	streams  = 4                // of each kind, in flight at each reload
	counts   = 100              // messages of a server stream: about a second
	echoes   = 20               // messages of a bidi stream after the reload
	patience = 60 * time.Second // for whatever ought to happen
)

func TestReloads(t *testing.T) {
	ctx := t.Context()
	s := start(t)
	var seen figures

	// Unary calls without a break.
	var calling sync.WaitGroup
	var over atomic.Bool
	for range callers {
		c := seen.dial(t, s.Addr)
		calling.Go(func() {
			for i := 0; !over.Load(); i++ {
				if err := seen.call(ctx, c, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer func() { over.Store(true); calling.Wait() }()

	c := seen.dial(t, s.Addr)
	if a, err := grpc_health_v1.NewHealthClient(c).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil || a.Status != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", a, err)
	}
	var open sync.WaitGroup // streams outlive the reload that they were opened before
	for i := range reloads {
		reloaded := make(chan struct{})
		var begun sync.WaitGroup
		begun.Add(2 * streams)
		for range streams {
			open.Go(func() { seen.check(t, count(ctx, c, begun.Done, reloaded, &seen)) })
			open.Go(func() { seen.check(t, echo(ctx, c, begun.Done, reloaded)) })
		}
		begun.Wait()
		out, err := s.API.Reload(ctx, api.ReloadRequest{Label: fmt.Sprint("v", i+2), Until: "baked"}, nil)
		close(reloaded)
		if err != nil {
			t.Fatalf("reload %d: %v, %+v\n%s", i+1, err, out, s.Log(20))
		}
	}
	open.Wait()
	before := seen.calls.Load()
	for end := time.Now().Add(patience); seen.calls.Load() < before+callers && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	over.Store(true)
	calling.Wait()

	generations := 0
	seen.generations.Range(func(any, any) bool { generations++; return true })
	t.Logf("%d reloads: %d unary calls, %d failed, %d of them tried again by gRPC because no server had seen them; %d streams (%d server streams over a reload), %d failed; %d connections, %d with GOAWAY, %d broken without; %d generations answered",
		reloads, seen.calls.Load(), seen.failed.Load(), seen.again.Load(), seen.streams.Load(), seen.over.Load(), seen.streamsFailed.Load(), seen.connections.Load(), seen.goAways.Load(), seen.broken.Load(), generations)
	if seen.failed.Load() > 0 || seen.streamsFailed.Load() > 0 || seen.broken.Load() > 0 {
		t.Error("somebody has noticed")
	}
	if generations != reloads+1 {
		t.Errorf("%d generations answered, wanted %d", generations, reloads+1)
	}
}

// start builds both programs and runs the example under masterd.
func start(t *testing.T) *service.Service {
	t.Helper()
	dir := t.TempDir()
	for pkg, in := range map[string]string{"./cmd/masterd": "../../..", ".": example} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", dir+"/", pkg)
		cmd.Dir = in
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building %s: %v\n%s", pkg, err, out)
		}
	}
	s, err := service.New(service.Built(dir), dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Set("listeners", []any{map[string]any{"name": "grpc", "address": "tcp://" + s.Addr}}).
		Set("worker.command", []string{filepath.Join(dir, "grpc")}).
		Set("health", map[string]any{"tcp": map[string]any{"listener": "grpc"}}).
		Set("drain.timeout", "1m")
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// figures are what the clients have seen.
type figures struct {
	calls, failed, again         atomic.Int64
	streams, streamsFailed, over atomic.Int64
	connections, goAways, broken atomic.Int64
	generations                  sync.Map
}

// dial makes a client that retries nothing. (What no server has seen, gRPC
// clients may send again, and do: that is counted, see TagRPC.)
func (f *figures) dial(t *testing.T, addr string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(false)),
		grpc.WithStatsHandler(f),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			f.connections.Add(1)
			return &watched{Conn: nc, seen: f}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (f *figures) call(ctx context.Context, c *grpc.ClientConn, i int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out wrapperspb.StringValue
	err := c.Invoke(ctx, "/"+serviceName+"/Where", wrapperspb.String(fmt.Sprint(i)), &out)
	f.calls.Add(1)
	where, what, _ := strings.Cut(out.Value, ": ")
	if err == nil && what != fmt.Sprint(i) {
		err = fmt.Errorf("call %d was answered %q", i, out.Value)
	}
	if err != nil {
		f.failed.Add(1)
		return err
	}
	f.generations.Store(where, true)
	return nil
}

func (f *figures) check(t *testing.T, err error) {
	f.streams.Add(1)
	if err != nil {
		f.streamsFailed.Add(1)
		t.Error(err)
	}
}

// count wants each message of a server stream.
func count(ctx context.Context, c *grpc.ClientConn, begun func(), reloaded <-chan struct{}, f *figures) error {
	begun = sync.OnceFunc(begun)
	defer begun()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, "/"+serviceName+"/Count")
	if err != nil {
		return err
	}
	if err := errors.Join(s.SendMsg(wrapperspb.UInt32(counts)), s.CloseSend()); err != nil {
		return err
	}
	for want := uint32(1); ; want++ {
		var m wrapperspb.UInt32Value
		switch err := s.RecvMsg(&m); {
		case errors.Is(err, io.EOF) && want == counts+1:
			select {
			case <-reloaded:
				f.over.Add(1)
			default:
			}
			return nil
		case err != nil:
			return fmt.Errorf("counting: %d of %d: %w", want, counts, err)
		case m.Value != want:
			return fmt.Errorf("counting: %d came instead of %d", m.Value, want)
		}
		begun()
	}
}

// echo talks before the reload and after it, in one stream.
func echo(ctx context.Context, c *grpc.ClientConn, begun func(), reloaded <-chan struct{}) error {
	begun = sync.OnceFunc(begun)
	defer begun()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+serviceName+"/Echo")
	if err != nil {
		return err
	}
	for i := range echoes {
		want := wrapperspb.String(fmt.Sprint("message ", i))
		var got wrapperspb.StringValue
		if err := s.SendMsg(want); err != nil {
			return fmt.Errorf("message %d: %w", i, err)
		}
		if err := s.RecvMsg(&got); err != nil || got.Value != want.Value {
			return fmt.Errorf("message %d: %q came back, %w", i, got.Value, err)
		}
		if i == 0 {
			begun()
			<-reloaded
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if err := s.RecvMsg(new(wrapperspb.StringValue)); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: %v", err)
	}
	return nil
}

// figures are a stats.Handler to count what gRPC tries again by itself.

func (f *figures) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (f *figures) HandleRPC(_ context.Context, s stats.RPCStats) {
	if b, ok := s.(*stats.Begin); ok && b.IsTransparentRetryAttempt {
		f.again.Add(1)
	}
}

func (f *figures) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (f *figures) HandleConn(context.Context, stats.ConnStats) {}

// watched is a connection beneath gRPC that looks for GOAWAY among the frames
// that come, so as to tell being asked to leave from being cut off.
type watched struct {
	net.Conn
	seen   *figures
	header []byte // of the next frame, as far as it has come
	skip   int    // bytes of a frame's payload that are yet to come
	goAway bool
	ended  bool
	closed atomic.Bool // by the client itself
}

func (c *watched) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.look(b[:n])
	if err != nil && !c.ended && !c.closed.Load() {
		c.ended = true
		if !c.goAway {
			c.seen.broken.Add(1)
		}
	}
	return n, err
}

func (c *watched) look(b []byte) {
	const headerSize, goAway = 9, 7 // RFC 9113, 4.1 and 6.8
	for len(b) > 0 {
		if c.skip > 0 {
			n := min(c.skip, len(b))
			b, c.skip = b[n:], c.skip-n
			continue
		}
		n := min(headerSize-len(c.header), len(b))
		c.header, b = append(c.header, b[:n]...), b[n:]
		if len(c.header) < headerSize {
			return
		}
		c.skip = int(binary.BigEndian.Uint32(c.header) >> 8)
		if c.header[3] == goAway && !c.goAway {
			c.goAway = true
			c.seen.goAways.Add(1)
		}
		c.header = c.header[:0]
	}
}

func (c *watched) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}
