package proc

// Credentials are the user and group a worker of this user and group would run
// as; empty ones are the master's own.
func Credentials(user, group string) (uid, gid int, err error) {
	s := Spec{User: user, Group: group}
	who, err := s.identify()
	return who.UID, who.GID, err
}
