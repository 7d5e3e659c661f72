package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	serviceName = "example.Talk"
	maxCount    = 10_000                // messages of one Count
	pace        = 10 * time.Millisecond // between two of them
)

// talk is the service. Its messages are types that protobuf brings along, and
// its description is written by hand, so that the example builds without protoc;
// a program of yours has both generated.
type talk struct{ generation uint64 }

// Where says which generation has answered.
func (t *talk) Where(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	return wrapperspb.String(fmt.Sprintf("generation %d: %s", t.generation, in.Value)), nil
}

// Count sends 1, 2, 3 and so on, slowly.
func (t *talk) Count(to uint32, out grpc.ServerStream) error {
	if to > maxCount {
		return status.Errorf(codes.InvalidArgument, "counting to %d is too much, at most %d", to, maxCount)
	}
	for i := range to {
		if err := out.SendMsg(wrapperspb.UInt32(i + 1)); err != nil {
			return err
		}
		select {
		case <-out.Context().Done():
			return status.FromContextError(out.Context().Err()).Err()
		case <-time.After(pace):
		}
	}
	return nil
}

// Echo answers each message with the same one, as long as the client likes.
func (t *talk) Echo(both grpc.ServerStream) error {
	for {
		var m wrapperspb.StringValue
		switch err := both.RecvMsg(&m); {
		case errors.Is(err, io.EOF):
			return nil // the client has said all
		case err != nil:
			return err
		}
		if err := both.SendMsg(&m); err != nil {
			return err
		}
	}
}

var description = grpc.ServiceDesc{
	ServiceName: serviceName,
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Where",
		Handler: func(t any, ctx context.Context, decode func(any) error, around grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			if around == nil {
				return t.(*talk).Where(ctx, in)
			}
			info := &grpc.UnaryServerInfo{Server: t, FullMethod: "/" + serviceName + "/Where"}
			return around(ctx, in, info, func(ctx context.Context, in any) (any, error) {
				return t.(*talk).Where(ctx, in.(*wrapperspb.StringValue))
			})
		},
	}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Count", ServerStreams: true, Handler: func(t any, s grpc.ServerStream) error {
			var to wrapperspb.UInt32Value
			if err := s.RecvMsg(&to); err != nil {
				return err
			}
			return t.(*talk).Count(to.Value, s)
		}},
		{StreamName: "Echo", ServerStreams: true, ClientStreams: true, Handler: func(t any, s grpc.ServerStream) error {
			return t.(*talk).Echo(s)
		}},
	},
}
