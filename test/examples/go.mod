module github.com/masterd/masterd/test/examples

go 1.26.0

require (
	github.com/masterd/masterd v0.0.0-00010101000000-000000000000
	github.com/redis/go-redis/v9 v9.23.0
	google.golang.org/grpc v1.85.0
	google.golang.org/protobuf v1.36.12
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/godbus/dbus/v5 v5.2.4 // indirect
	go.uber.org/atomic v1.12.0 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260817212433-ac3dfec99bb1 // indirect
)

replace (
	github.com/masterd/masterd => ../..
	github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc
	github.com/masterd/masterd/pkg/worker => ../../pkg/worker
	github.com/masterd/masterd/pkg/worker/ginworker => ../../pkg/worker/ginworker
)
