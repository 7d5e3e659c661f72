package proc

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
)

// identify finds out whom the worker is to run as. It is the master that looks
// users up: the shim is to be quick, and what answers a lookup (NSS, LDAP)
// must not run in a process that is half one user and half another.
func (s *Spec) identify() (identity, error) {
	who := identity{User: s.User, UID: os.Geteuid(), GID: os.Getegid()}
	if s.User == "" && s.Group == "" {
		return who, nil
	}
	known := false // the user is in the user database, so that it has groups
	if s.User != "" {
		u, err := lookup(s.User)
		if err == nil {
			who.UID, _ = strconv.Atoi(u.Uid)
			who.GID, _ = strconv.Atoi(u.Gid)
			known = true
			if who.Groups, err = groupsOf(u); err != nil {
				return who, fmt.Errorf("the groups of the user %s cannot be found: %w", s.User, err)
			}
		} else if who.UID, _ = strconv.Atoi(s.User); who.UID == 0 || s.Group == "" {
			return who, fmt.Errorf("the worker's user %s cannot be found: %w; create it or change worker.user", s.User, err)
		}
	}
	if s.Group != "" {
		primary := who.GID
		g, err := user.LookupGroup(s.Group)
		if err == nil {
			who.GID, _ = strconv.Atoi(g.Gid)
		} else if n, nan := strconv.Atoi(s.Group); nan == nil && n >= 0 {
			who.GID = n
		} else {
			return who, fmt.Errorf("the worker's group %s cannot be found: %w; create it or change worker.group", s.Group, err)
		}
		// As initgroups(3) with this group in place of the user's own.
		who.Groups = slices.DeleteFunc(who.Groups, func(gid int) bool { return known && gid == primary })
	}
	if !slices.Contains(who.Groups, who.GID) {
		who.Groups = append([]int{who.GID}, who.Groups...)
	}
	root := os.Geteuid() == 0
	who.Change = root || who.UID != os.Geteuid() || who.GID != os.Getegid()
	return who, nil
}

func lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if _, nan := strconv.Atoi(name); nan == nil {
			if byID, e := user.LookupId(name); e == nil {
				return byID, nil
			}
		}
		return nil, err
	}
	return u, nil
}

func groupsOf(u *user.User) ([]int, error) {
	texts, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	groups := make([]int, 0, len(texts))
	for _, t := range texts {
		gid, err := strconv.Atoi(t)
		if err != nil {
			return nil, errors.New("a group that is not a number: " + t)
		}
		groups = append(groups, gid)
	}
	return groups, nil
}
