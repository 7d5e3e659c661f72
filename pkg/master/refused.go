package master

import (
	"errors"
	"fmt"
	"os"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/trust"
)

// A masterd may refuse what an earlier one took. It does so at a check, at a reload, and
// when it is to prove that it could take over; a master that is here already goes on with
// what runs, says what it lacks, and what to type.

// lookAtRefused tells at a takeover which paths of what runs would be refused anew.
func (m *Master) lookAtRefused() {
	if m.refused = config.Refused(m.cfg); m.refused != nil {
		m.log.Error("degraded", zap.String("reason", whyRefused(m.refused)))
	}
}

func whyRefused(err error) string {
	return fmt.Sprintf("What runs goes on as an earlier masterd has started it, and is refused at the next reload: %v", err)
}

// lacks tells what a master does without, that serves all the same.
func (m *Master) lacks(refused error) (reasons []string) {
	if refused != nil {
		reasons = append(reasons, whyRefused(refused))
	}
	if err := m.journal.Unopened(); err != nil {
		reasons = append(reasons, fmt.Sprintf("The log goes to standard error: %v. Mend that, and type: kill -USR1 %d", err, os.Getpid()))
	}
	if err := m.history.Unwritten(); err != nil {
		reasons = append(reasons, fmt.Sprintf("The history is in memory alone: %v. Mend that, and type: masterd upgrade", err))
	}
	return reasons
}

// variables reads a file of them. What an earlier masterd has started is started again
// with what it was started with.
func (g *generation) variables(path string) ([]string, error) {
	vars, err := config.LoadEnvFile(path)
	if _, refused := errors.AsType[trust.Refused](err); refused && !g.vetted {
		return config.LoadEnvFileOfAnybody(path)
	}
	return vars, err
}
