module github.com/masterd/masterd/test/browser

go 1.26.0

require (
	github.com/chromedp/cdproto v0.160.1
	github.com/chromedp/chromedp v0.23.1
	github.com/masterd/masterd v0.0.0
)

require github.com/go-json-experiment/json v0.0.0-20260213210345-44df1a37e875 // indirect

replace github.com/masterd/masterd => ../..

replace github.com/masterd/masterd/pkg/ipc => ../../pkg/ipc

replace github.com/masterd/masterd/pkg/worker => ../../pkg/worker

replace github.com/masterd/masterd/pkg/worker/ginworker => ../../pkg/worker/ginworker
