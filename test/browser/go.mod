module github.com/masterd/masterd/test/browser

go 1.26.0

require (
	github.com/chromedp/cdproto v0.160.1
	github.com/chromedp/chromedp v0.23.1
	github.com/masterd/masterd v0.0.0
)

require (
	github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect
	github.com/godbus/dbus/v5 v5.2.4 // indirect
	go.yaml.in/yaml/v3 v3.0.6 // indirect
	golang.org/x/sys v0.49.0 // indirect
)

replace github.com/masterd/masterd => ../..

replace github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc

replace github.com/masterd/masterd/pkg/worker => ../../pkg/worker

replace github.com/masterd/masterd/pkg/worker/ginworker => ../../pkg/worker/ginworker
