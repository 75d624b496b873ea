// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/moby/sys/user"
)

// maxAccountFile bounds /etc/passwd and /etc/group of an image.
const maxAccountFile = 1 << 20

// LookupUser resolves USER[:GROUP], names or numbers, empty for user 0, by the account files below rootfs. It changes
// nothing.
func LookupUser(rootfs, spec string) (User, error) {
	passwd, err := readAccounts(rootfs, "/etc/passwd")
	if err != nil {
		return User{}, err
	}
	group, err := readAccounts(rootfs, "/etc/group")
	if err != nil {
		return User{}, err
	}
	found, err := user.GetExecUser(spec, nil, bytes.NewReader(passwd), bytes.NewReader(group))
	if err != nil {
		return User{}, fmt.Errorf("looking up user %q: %w", spec, err)
	}
	names, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool { return u.Uid == found.Uid })
	if err != nil {
		return User{}, fmt.Errorf("reading the image's /etc/passwd: %w", err)
	}
	groups, err := user.ParseGroup(bytes.NewReader(group))
	if err != nil {
		return User{}, fmt.Errorf("reading the image's /etc/group: %w", err)
	}
	return assemble(found, names, groups)
}

func readAccounts(rootfs, path string) ([]byte, error) {
	b, err := readIn(rootfs, path, maxAccountFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func assemble(found *user.ExecUser, names []user.User, groups []user.Group) (User, error) {
	uid, err := id32(found.Uid)
	if err != nil {
		return User{}, err
	}
	gid, err := id32(found.Gid)
	if err != nil {
		return User{}, err
	}
	groupName := map[int]string{}
	for _, g := range groups {
		if _, ok := groupName[g.Gid]; !ok { // the first entry counts
			groupName[g.Gid] = g.Name
		}
	}
	u := User{UID: uid, GID: gid, Group: groupName[found.Gid]}
	if len(names) > 0 {
		u.Name = names[0].Name
	}
	for _, g := range found.Sgids {
		extra, err := id32(g)
		if err != nil {
			return User{}, err
		}
		u.Extra = append(u.Extra, extra)
		u.Groups = append(u.Groups, groupName[g])
	}
	return u, nil
}

func id32(id int) (uint32, error) {
	if id < 0 || id > math.MaxInt32 {
		return 0, fmt.Errorf("user or group number %d is not within 0 to %d", id, math.MaxInt32)
	}
	return uint32(id), nil
}
