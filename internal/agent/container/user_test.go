// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	passwdFile = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\nalias:x:1000:7::/:/bin/sh\n"
	groupFile  = "root:x:0:\napp:x:1000:\nwheel:x:10:app,root\nvideo:x:44:app\n"
)

// tree writes files below a new directory; a content that begins with "-> " makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLookupUser(t *testing.T) {
	t.Parallel()
	plain := map[string]string{"etc/passwd": passwdFile, "etc/group": groupFile}
	tests := map[string]struct {
		files map[string]string
		spec  string
		want  User
		fails string
	}{
		"empty is root":     {plain, "", User{Name: "root", Group: "root", Extra: []uint32{10}, Groups: []string{"wheel"}}, ""},
		"name":              {plain, "app", User{Name: "app", UID: 1000, GID: 1000, Group: "app", Extra: []uint32{10, 44}, Groups: []string{"wheel", "video"}}, ""},
		"number":            {plain, "1000", User{Name: "app", UID: 1000, GID: 1000, Group: "app", Extra: []uint32{10, 44}, Groups: []string{"wheel", "video"}}, ""},
		"name and group":    {plain, "app:wheel", User{Name: "app", UID: 1000, GID: 10, Group: "wheel"}, ""},
		"unknown number":    {plain, "4242:4243", User{UID: 4242, GID: 4243}, ""},
		"no account files":  {nil, "5", User{UID: 5}, ""},
		"unknown name":      {plain, "eve", User{}, "unable to find user eve"},
		"unknown group":     {plain, "app:eve", User{}, "unable to find group"},
		"number too large":  {plain, "4294967296", User{}, "in range"},
		"links stay inside": {map[string]string{"etc/passwd": "-> /real", "real": passwdFile, "etc/group": groupFile}, "app:0", User{Name: "app", UID: 1000, Group: "root"}, ""},
		"a directory":       {map[string]string{"etc/passwd/x": ""}, "app", User{}, "not a regular file"},
		"too large":         {map[string]string{"etc/passwd": strings.Repeat("#", maxAccountFile+1)}, "app", User{}, "larger than"},
		"a device":          {map[string]string{"etc/passwd": "-> /../../../../dev/zero"}, "5", User{UID: 5}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := LookupUser(tree(t, tt.files), tt.spec)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Fatalf("got %v, want an error with %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
		})
	}
}

// FuzzLookupUser reads hostile account files.
func FuzzLookupUser(f *testing.F) {
	f.Add([]byte(passwdFile), []byte(groupFile), "app:wheel")
	f.Add([]byte("a:::"), []byte(":::,"), "0:0")
	f.Fuzz(func(t *testing.T, passwd, group []byte, spec string) {
		root := t.TempDir()
		err := os.Mkdir(filepath.Join(root, "etc"), 0o755)
		if err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string][]byte{"passwd": passwd, "group": group} {
			err = os.WriteFile(filepath.Join(root, "etc", name), b, 0o600)
			if err != nil {
				t.Fatal(err)
			}
		}
		u, err := LookupUser(root, spec)
		if err == nil && len(u.Extra) != len(u.Groups) {
			t.Errorf("%d groups and %d names", len(u.Extra), len(u.Groups))
		}
	})
}
