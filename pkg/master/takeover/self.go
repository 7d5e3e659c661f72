package takeover

import "slices"

// RestoredEnv is in the environment of a masterd that the keeper, or a failed
// exec, has brought back: the binary that was to take over.
const RestoredEnv = "MASTERD_RESTORED"

// StartedAsEnv carries over an exec by which path masterd was started, see
// [Self.Program].
const StartedAsEnv = "MASTERD_STARTED_AS"

// Self is how this process was started. What was resolved then stays so for every
// masterd that follows it: paths are absolute, with the symbolic links in them that
// were there. So an upgrade runs what they lead to now, and reads what a reload reads.
type Self struct {
	Program string   // its file, as it was named; another may lie there by now
	Flags   []string // of the verb run, and of the proof that it would work
	Env     []string
}

// As is the same start of another program.
func (s Self) As(program string) Self {
	s.Program = program
	return s
}

// Args are the arguments of a verb.
func (s Self) Args(verb string) []string { return append([]string{s.Program, verb}, s.Flags...) }

// Environ is the environment, with more in it.
func (s Self) Environ(more ...string) []string {
	return slices.Concat(s.Env, []string{StartedAsEnv + "=" + s.Program}, more)
}
