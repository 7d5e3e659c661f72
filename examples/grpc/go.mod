module github.com/masterd/masterd/examples/grpc

go 1.26.0

require (
	github.com/masterd/masterd/pkg/worker v0.0.0-00010101000000-000000000000
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/masterd/masterd/pkg/ipc v0.0.0-00010101000000-000000000000 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

replace (
	github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc
	github.com/masterd/masterd/pkg/worker => ../../pkg/worker
)
