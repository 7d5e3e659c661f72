//go:build masterd_turns

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// turns is what a masterd that is built with the tag masterd_turns measures of its loop. All
// times are in nanoseconds.
type turns struct {
	Turns int64     `json:"turns"`
	Wall  quantiles `json:"wall"`
	Own   quantiles `json:"own"`
	CPU   quantiles `json:"cpu"`
	// Longest has, by what was done, the turn with the most time of its own.
	Longest map[string]turnTook `json:"longest"`
	// Waits says how often a turn has waited for another goroutine, by the functions that
	// waited, the innermost first. Many of the same name are many places.
	Waits map[string]int64 `json:"waits"`
}

type quantiles struct {
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p99.9"`
	Max  int64 `json:"max"`
}

// turnTook is how long one turn took: by the clock; without the time in which its thread could
// have run and waited for a processor; and on a processor. Between the last two it was
// blocked: in the kernel, by another goroutine (see Waits), or by Go's scheduler, which
// preempts a goroutine whose thread the kernel has preempted, and stops all to collect garbage.
// No Go program can tell that from the first; a trace of the runtime's can.
type turnTook struct {
	Wall int64 `json:"wall"`
	Own  int64 `json:"own"`
	CPU  int64 `json:"cpu"`
}

// turn gives what makes the turns of such a masterd's loop, and measures them. Once a second
// it writes them to the file that MASTERD_TURNS names.
func turn() func(do func(), what func() string) {
	file := os.Getenv("MASTERD_TURNS")
	if file == "" {
		return nil
	}
	runtime.SetBlockProfileRate(1)
	wall, own, cpu := histogram(), histogram(), histogram()
	longest := map[string]turnTook{}
	thread := -1
	var written time.Time
	return func(do func(), what func() string) {
		if thread < 0 { // the kernel counts by threads: from now on the loop's goroutine has one of its own
			runtime.LockOSThread()
			var err error
			if thread, err = unix.Open("/proc/thread-self/schedstat", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				panic(err)
			}
		}
		waited, ran, begun := delay(thread), processor(), time.Now()
		do()
		t := turnTook{Wall: time.Since(begun).Nanoseconds()}
		t.CPU = min(processor()-ran, t.Wall)
		t.Own = max(t.Wall-(delay(thread)-waited), t.CPU)
		record(wall, t.Wall)
		record(own, t.Own)
		record(cpu, t.CPU)
		if name := what(); t.Own >= longest[name].Own {
			longest[name] = t
		}
		if time.Since(written) < time.Second {
			return
		}
		written = time.Now()
		text, err := json.Marshal(turns{wall.TotalCount(), of(wall), of(own), of(cpu), longest, waits()})
		if err == nil {
			err = os.WriteFile(file+".new", text, 0o600)
		}
		if err == nil {
			_ = os.Rename(file+".new", file)
		}
	}
}

func histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, time.Minute.Nanoseconds(), 3) }

func record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(max(1, min(ns, time.Minute.Nanoseconds())))
}

func of(h *hdrhistogram.Histogram) quantiles {
	return quantiles{h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max()}
}

// The calls below are raw: Go's scheduler knows nothing of them, and gives nobody else the
// place of the loop meanwhile.

// processor is how long the thread has run.
func processor() int64 {
	var t unix.Timespec
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_THREAD_CPUTIME_ID, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}

// delay is how long the thread could have run and waited for a processor.
func delay(schedstat int) (ns int64) {
	var buf [64]byte
	n, _, errno := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(schedstat), uintptr(unsafe.Pointer(&buf)),
		uintptr(len(buf)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	if fields := bytes.Fields(buf[:n]); len(fields) >= 2 {
		ns, _ = strconv.ParseInt(string(fields[1]), 10, 64)
	}
	return ns
}

// waits are those of turns, of all that the runtime has seen.
func waits() map[string]int64 {
	all := map[string]int64{}
	n, _ := runtime.BlockProfile(nil)
	records := make([]runtime.BlockProfileRecord, n+50)
	if n, ok := runtime.BlockProfile(records); ok {
		records = records[:n]
	}
	for _, r := range records {
		var names []string
		frames := runtime.CallersFrames(r.Stack())
		for more := true; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if strings.HasPrefix(f.Function, "main.turn.func") {
				all[strings.Join(names, " < ")] += r.Count
				break
			}
			names = append(names, f.Function[strings.LastIndexByte(f.Function, '/')+1:])
		}
	}
	return all
}
