// Program grpc is a gRPC server on masterd's worker package.
package main

import (
	"context"
	"log"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/masterd/masterd/pkg/worker"
)

const (
	// handshakeTimeout is short because a server that is asked to stop first
	// waits for clients that have connected and said nothing yet.
	handshakeTimeout = 5 * time.Second
	// connectionAge brings long-lived clients to new connections by and by, with
	// or without a reload.
	connectionAge = time.Hour
)

func main() {
	w := worker.New(worker.Options{})
	// What all servers of this process share lives outside of make.
	service := &talk{generation: w.Info().Generation}
	w.Serve("grpc", func() worker.GracefulServer {
		s := grpc.NewServer(
			grpc.ConnectionTimeout(handshakeTimeout),
			grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: connectionAge}),
		)
		s.RegisterService(&description, service)
		grpc_health_v1.RegisterHealthServer(s, health.NewServer())
		return s
	}, worker.Address("127.0.0.1:50051"))
	if err := w.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
