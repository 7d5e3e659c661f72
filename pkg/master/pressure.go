package master

import (
	"time"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// pressureInterval is how often memory is looked at while a generation is parked.
const pressureInterval = 5 * time.Second

// lookAtMemory tells the machine when memory runs short, as long as there is a
// parked generation that could leave.
func (m *Master) lookAtMemory() {
	t := time.NewTicker(pressureInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-m.life.Done():
			return
		case <-m.done:
			return
		}
		parked := false
		m.ask(func() { parked = m.machine.Status().Parked != 0 })
		if !parked {
			continue
		}
		if pressed, detail := m.system.pressure(); pressed {
			m.tell(rollout.Pressed{Detail: detail})
		}
	}
}
