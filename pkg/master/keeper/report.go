package keeper

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// A supervisor that has started the master itself, as the first process of a
// container has, must know when a guard stands: the end of the master is the
// keeper's business then. It gives the master the end of a pipe, and reads lines:
//
//	guard MILLISECONDS   a guard stands from now on, for so long
//	unguarded            none stands: the master has proved itself
//	started PID          the keeper has started the master from before, as the
//	                     supervisor's child; 0: it could not
const (
	ReportGuard     = "guard"
	ReportUnguarded = "unguarded"
	ReportStarted   = "started"
)

// ReporterEnv says in a master's environment that ReporterFD is the end of that pipe.
const (
	ReporterEnv = "MASTERD_REPORTER"
	ReporterFD  = 3
)

// ReporterVariable is what a master is given with the descriptor.
func ReporterVariable() string { return ReporterEnv + "=" + strconv.Itoa(ReporterFD) }

// Reporter is the end of the pipe that a supervisor has given this process; nil:
// nobody has. This process's children do not get it.
func Reporter(env func(string) string) *os.File {
	if env(ReporterEnv) != strconv.Itoa(ReporterFD) {
		return nil
	}
	var st syscall.Stat_t
	if syscall.Fstat(ReporterFD, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return nil
	}
	syscall.CloseOnExec(ReporterFD)
	return os.NewFile(ReporterFD, "reporter")
}

// Guarded reports that a guard stands; to nil: nobody wants to know.
func Guarded(to *os.File, d time.Duration) error {
	return report(to, "%s %d\n", ReportGuard, d.Milliseconds())
}

// Unguarded reports that none does.
func Unguarded(to *os.File) error { return report(to, "%s\n", ReportUnguarded) }

// report writes a line, which a pipe takes whole.
func report(to *os.File, format string, args ...any) error {
	if to == nil {
		return nil
	}
	_, err := fmt.Fprintf(to, format, args...)
	return err
}
