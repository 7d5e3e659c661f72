package workers

import (
	"time"

	"go.uber.org/zap"
)

// warnEvery is the least time between two lines of one kind about one worker. What a
// worker says or does makes each of them, as often as it likes.
const warnEvery = time.Second

// merged is what became of the lines of one kind about one worker.
type merged struct {
	at   time.Time // of the last one that was written
	more int       // since then that were not
}

// warn writes a line about something that a worker has brought about, and merges those
// that follow it too soon. text is a constant: it names the kind. The loop calls it.
func (set *Set) warn(w *Worker, text string, fields ...zap.Field) {
	now, last := time.Now(), w.warned[text]
	if !last.at.IsZero() && now.Sub(last.at) < warnEvery {
		last.more++
		w.warned[text] = last
		return
	}
	if last.more > 0 {
		fields = append(fields, zap.Int("more_since_last_line", last.more))
	}
	if w.warned == nil {
		w.warned = map[string]merged{}
	}
	w.warned[text] = merged{at: now}
	set.Log.Warn(text, append(set.Fields(w), fields...)...)
}
