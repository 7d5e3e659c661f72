module github.com/masterd/masterd/examples/resilience

go 1.26.0

require (
	github.com/masterd/masterd/pkg/worker v0.0.0-00010101000000-000000000000
	github.com/sony/gobreaker/v2 v2.4.0
)

require (
	github.com/masterd/masterd/pkg/ipc v0.0.0-00010101000000-000000000000 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace (
	github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc
	github.com/masterd/masterd/pkg/worker => ../../pkg/worker
)
