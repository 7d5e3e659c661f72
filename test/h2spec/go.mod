module github.com/masterd/masterd/test/h2spec

go 1.26.0

require (
	github.com/masterd/masterd v0.0.0
	github.com/masterd/masterd/pkg/worker v0.0.0-00010101000000-000000000000
	github.com/summerwind/h2spec v2.2.1+incompatible
)

require (
	github.com/fatih/color v1.19.0 // indirect
	github.com/godbus/dbus/v5 v5.2.4 // indirect
	github.com/masterd/masterd/pkg/ipc v0.0.0-00010101000000-000000000000 // indirect
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace (
	github.com/masterd/masterd => ../..
	github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc
	github.com/masterd/masterd/pkg/worker => ../../pkg/worker
	github.com/masterd/masterd/pkg/worker/ginworker => ../../pkg/worker/ginworker
)
