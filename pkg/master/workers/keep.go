package workers

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/session"
)

// receive takes what a worker says, in its session's goroutine. What was sent to
// be kept is looked at here: it may be any descriptor.
func (s *sdk) receive(f session.Fact) {
	set := s.set
	if f.Kind != session.Keep {
		set.Loop.Post(func() { s.handle(f) })
		return
	}
	if unfit := blob.Fit(*f.Blob, f.FD); unfit != nil {
		fdpass.DiscardWait(set.Loop.Done(), f.FD)
		set.Loop.Post(func() { s.replyBlob(f, ipc.Blob{}, unfit) })
		return
	}
	set.Loop.PostOr(func() {
		if set.workers[s.ID] != s.Worker { // it has been replaced meanwhile: its replacement has read another
			blob.Release(f.FD)
			return
		}
		b, err := set.Blobs.KeepFor(s.blobWorker(), *f.Blob, f.FD, blob.Limits(set.Master.InForce().State))
		s.replyBlob(f, b, err)
	}, func() { blob.Release(f.FD) })
}

// blobWorker is a worker as far as it matters for what is kept.
func (s *sdk) blobWorker() blob.Worker {
	return blob.Worker{Generation: uint64(s.Generation.ID), Activated: s.Generation.Activated, ParkedAt: s.parkedAt}
}

// fetch hands a kept blob to a worker.
func (s *sdk) fetch(f session.Fact) {
	b, fd, err := s.set.Blobs.Fetch(f.Blob.Name)
	if err != nil {
		s.replyBlob(f, b, err)
		return
	}
	s.answered(s.session.Blob(f.Seq, b, fd))
}

// forgetBlob lets a blob go.
func (s *sdk) forgetBlob(f session.Fact) {
	b, err := s.set.Blobs.ForgetFor(s.blobWorker(), *f.Blob)
	s.replyBlob(f, b, err)
}

// replyBlob answers a worker's request. A refusal is logged for the operator, too.
func (s *sdk) replyBlob(f session.Fact, b ipc.Blob, why error) {
	if why != nil {
		s.set.warn(s.Worker, "refused a worker's "+f.Kind.String()+" of state", zap.Error(why))
		s.answered(s.session.Refuse(f.Seq, why.Error()))
		return
	}
	s.answered(s.session.Kept(f.Seq, b))
}

// answered notes an answer that could not be given: the worker asks again when
// it has connected again.
func (s *sdk) answered(err error) {
	if err != nil {
		s.set.Log.Debug("a worker's request for kept state could not be answered",
			append(s.set.Fields(s.Worker), zap.Error(err))...)
	}
}
