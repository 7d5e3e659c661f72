module github.com/masterd/masterd/pkg/ipc

go 1.24

require golang.org/x/sys v0.21.0
