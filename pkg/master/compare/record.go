package compare

// RecordWanted is how many reloads of an unchanged program have to show that a new process is as
// fast as an old one, before latency takes anything back. A program whose caches are cold at
// first, or that compiles as it runs, is slower each time: ten times in a row by chance it is not.
const RecordWanted = 10

// Record is what reloads of an unchanged program have shown, the newest ones: that of which the
// outcome of latency was not clear is not among them.
type Record struct {
	Rollouts int // at most RecordWanted
	Slower   int // of them, those by which the same program would have been taken back
}

// Proven reports whether latency may take a version back.
func (r Record) Proven() bool { return r.Rollouts >= RecordWanted && r.Slower == 0 }
