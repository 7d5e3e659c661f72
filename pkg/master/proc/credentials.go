package proc

// Credentials are what a worker of this user and group would run as, with its
// supplementary groups; empty ones are the master's own.
func Credentials(user, group string) (uid, gid int, groups []int, err error) {
	s := Spec{User: user, Group: group}
	who, err := s.identify()
	return who.UID, who.GID, who.Groups, err
}
