module github.com/masterd/masterd/pkg/worker

go 1.24

require (
	github.com/masterd/masterd/pkg/ipc v0.0.0-00010101000000-000000000000
	golang.org/x/sys v0.21.0
)

replace github.com/masterd/masterd/pkg/ipc => ../ipc
