package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// The signal goes to the process that is the master by the kernel's word, and to no other.
func TestReopen(t *testing.T) {
	got := make(chan os.Signal, 1)
	signal.Notify(got, syscall.SIGUSR1)
	defer signal.Stop(got)
	c := newCLI(t)
	c.service("shop", &admintest.Backend{StatusIs: api.Status{Master: api.Master{PID: os.Getpid()}}})
	c.want(0, fmt.Sprintf("process %d opens its log files anew\n", os.Getpid()), "", "-s", "reopen")
	select {
	case <-got:
	case <-time.After(20 * time.Second):
		t.Error("no signal came")
	}
	// In another PID namespace it has another number; here that is somebody else.
	c = newCLI(t)
	c.service("shop", &admintest.Backend{StatusIs: api.Status{Master: api.Master{PID: os.Getppid()}}})
	code, _, errs := c.run("-s", "reopen")
	if want := fmt.Sprintf("type there: kill -USR1 %d", os.Getppid()); code != 1 || !strings.Contains(errs, want) {
		t.Errorf("exit %d: %s", code, errs)
	}
}
