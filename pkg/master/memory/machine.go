package memory

const (
	pressureLimit = 64 << 20 // bytes; less available is pressure,
	pressureShare = 16       // but on small machines only less than 1/16 of all there is
)

// Machine is where to look. The zero value is this one.
type Machine struct {
	Proc string // of the proc file system; empty: /proc
	Root string // put before the mount points named in mountinfo; empty: none
}
