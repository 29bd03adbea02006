package invoke

import (
	"time"

	"lambent"
	"lambent/internal/pool"
)

// answerStream tells a caller's stream how the execution started, which the
// session with the runtime does not know.
type answerStream struct {
	lambent.AnswerStream
	startedAt func(handedAt time.Time) lambent.Start
}

// streamOf is the way of a streamed answer from a container to the caller.
func streamOf(inv *lambent.Invocation, asked *lambent.Function, lease *pool.Lease) *answerStream {
	return &answerStream{inv.Stream, func(handedAt time.Time) lambent.Start { return startOf(inv, asked, lease, handedAt) }}
}

// Begin is told by the session.
func (s *answerStream) Begin(contentType string, handedAt time.Time) {
	s.AnswerStream.Begin(s.startedAt(handedAt), contentType)
}
