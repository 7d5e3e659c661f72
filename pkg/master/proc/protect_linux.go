package proc

import (
	"runtime"
	"sync"

	"github.com/masterd/masterd/pkg/master/process"
)

// Protect makes this process one of the last to suffer from what others use up, as far
// as it may: memory, and processes, of which each thread is one.
func Protect(threads int) {
	if was, err := process.Score(process.Self); err == nil && was >= 0 {
		_ = process.SetScore(process.Self, -500) // as the unit says; it needs CAP_SYS_RESOURCE
	}
	SpareThreads(threads)
}

// SpareThreads gives the Go runtime n threads beyond those that it needs now. It gives
// none back, and it ends the process when it needs one more and cannot have it: when
// somebody has used up the processes of a cgroup, say.
func SpareThreads(n int) {
	var there, over sync.WaitGroup
	there.Add(n)
	leave := make(chan struct{})
	for range n {
		over.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			there.Done()
			<-leave // all at once: each has a thread of its own
		})
	}
	there.Wait()
	close(leave)
	over.Wait()
}
