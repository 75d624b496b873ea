// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const secret = "/tmp/atlas/secretsVolume/keys"

func filled(t *testing.T, v *Volumes, files ...File) {
	t.Helper()
	err := v.Fill(secret, files)
	if err != nil {
		t.Fatal(err)
	}
}

func text(path, content string) File { return File{Path: path, Content: []byte(content), Mode: 0o644} }

func more(path, content string) File {
	return File{Path: path, Content: []byte(content), Append: true}
}

func TestFill(t *testing.T) {
	t.Parallel()
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 20}
	filled(t, v)
	info, err := os.Stat(v.Path(secret))
	if err != nil || info.Mode().Perm() != volumeMode {
		t.Fatalf("a volume without files: %v, %v", info, err)
	}
	private := text("deep/er/key", "k")
	private.Mode = 0o400
	filled(t, v, text("token", "first"), private)
	old, err := os.Open(filepath.Join(v.Path(secret), "token"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = old.Close() }()
	filled(t, v, text("token", "second"), more("token", " part"), more("deep/er/key", "ey"))
	for name, want := range map[string]string{"token": "second part", "deep/er/key": "key"} {
		if got := read(t, filepath.Join(v.Path(secret), name)); got != want {
			t.Errorf("%s holds %q, want %q", name, got, want)
		}
	}
	b := make([]byte, 10)
	n, err := old.Read(b)
	if err != nil || string(b[:n]) != "first" {
		t.Errorf("whoever had the old file open reads %q, %v", b[:n], err)
	}
	info, err = os.Stat(filepath.Join(v.Path(secret), "deep/er/key"))
	if err != nil || info.Mode().Perm() != 0o400 {
		t.Errorf("the key's mode is %v, %v", info, err)
	}
	names, err := os.ReadDir(v.Path(secret))
	if err != nil || len(names) != 2 {
		t.Errorf("the volume holds %v, %v, want two entries", names, err)
	}
	// What is there when a container mounts it is what it gets.
	prepared(t, v, t.TempDir(), Mount{Source: secret, Destination: "/keys"})
	if got := read(t, filepath.Join(v.Path(secret), "token")); got != "second part" {
		t.Errorf("after mounting the token is %q", got)
	}
}

// TestFillFollowsNothing has a container put links, pipes and directories where the agent is to write. Nothing outside of
// the volume changes, and the agent does not wait.
func TestFillFollowsNothing(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	err := os.MkdirAll(outside, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(outside, "file"), []byte("mine"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	link := func(at string) error { return os.Symlink(filepath.Join(outside, "file"), at) }
	tests := map[string]struct {
		plant func(at string) error
		file  File
		fails bool
	}{
		"link in the file's place":      {link, text("x", "new"), false},
		"link in an appended's place":   {link, more("x", "new"), true},
		"link in a directory's place":   {func(at string) error { return os.Symlink(outside, at) }, text("x/file", "new"), true},
		"pipe in an appended's place":   {func(at string) error { return unix.Mkfifo(at, 0o666) }, more("x", "new"), true},
		"pipe in the file's place":      {func(at string) error { return unix.Mkfifo(at, 0o666) }, text("x", "new"), false},
		"directory in the file's place": {func(at string) error { return os.MkdirAll(at+"/y", 0o777) }, text("x", "new"), true},
		"directory to append to":        {func(at string) error { return os.Mkdir(at, 0o777) }, more("x", "new"), true},
		"nothing to append to":          {func(string) error { return nil }, more("x", "new"), true},
		"file in a directory's place":   {func(at string) error { return os.WriteFile(at, nil, 0o666) }, text("x/y", "new"), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 20}
			filled(t, v)
			err := tt.plant(filepath.Join(v.Path(secret), "x"))
			if err != nil {
				t.Fatal(err)
			}
			err = v.Fill(secret, []File{tt.file})
			if (err != nil) != tt.fails {
				t.Errorf("filling: %v", err)
			}
			if got := read(t, filepath.Join(outside, "file")); got != "mine" {
				t.Errorf("the file outside holds %q", got)
			}
			if !tt.fails {
				info, err := os.Lstat(filepath.Join(v.Path(secret), "x"))
				if err != nil || !info.Mode().IsRegular() {
					t.Errorf("the file is %v, %v", info, err)
				}
			}
			names, err := os.ReadDir(v.Path(secret))
			if err != nil || len(names) > 1 {
				t.Errorf("the volume holds %v, %v", names, err)
			}
		})
	}
}

// TestFillIsBounded fills until the budget is used up. Replacing does not give it back: whoever has the old file open keeps
// it.
func TestFillIsBounded(t *testing.T) {
	t.Parallel()
	var told int64
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 100 << 10, Charge: func(n int64) error {
		told = n
		return nil
	}}
	big := text("x", strings.Repeat("x", 60<<10))
	filled(t, v, big)
	if told != 61<<10 {
		t.Errorf("charged are %d bytes, want %d", told, 61<<10)
	}
	err := v.Fill(secret, []File{big})
	if !errors.Is(err, ErrFull) {
		t.Errorf("filling beyond the budget: %v, want %v", err, ErrFull)
	}
	err = v.Fill(secret, []File{text(strings.Repeat("d/", 60)+"x", "")})
	if !errors.Is(err, ErrFull) {
		t.Errorf("filling beyond the budget with directories: %v, want %v", err, ErrFull)
	}
	if told != 61<<10 {
		t.Errorf("charged are %d bytes after refusals, want %d", told, 61<<10)
	}
	for i := range maxVolumes {
		err = v.Fill(secret+strings.Repeat("x", i%100+1)+strings.Repeat("y", i/100), nil)
		if err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "1024 already") {
		t.Errorf("one more than %d volumes: %v", maxVolumes, err)
	}
}
