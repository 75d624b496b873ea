// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

const volume = "/tmp/atlas/emptydir/data"

func prepared(t *testing.T, v *Volumes, rootfs string, m Mount) {
	t.Helper()
	err := v.prepare(rootfs, m)
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestVolumesAreMade(t *testing.T) {
	t.Parallel()
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Network: Network{ResolvConf: "nameserver 192.0.2.1\n"}}
	prepared(t, v, t.TempDir(), Mount{Source: "/tmp/atlas/resolvconf/x", Destination: "/etc/resolv.conf"})
	if got := read(t, v.Path("/tmp/atlas/resolvconf/x")); got != "nameserver 192.0.2.1\n" {
		t.Errorf("resolv.conf is %q", got)
	}
	prepared(t, v, t.TempDir(), Mount{Source: volume, Destination: "/data"})
	info, err := os.Stat(v.Path(volume))
	if err != nil || info.Mode().Perm() != volumeMode {
		t.Errorf("an empty volume: %v, %v", info, err)
	}
}

// TestCopyUp fills a new volume from the image, once.
func TestCopyUp(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root)
	rootfs := tree(t, map[string]string{
		"var/data/a": "first", "var/data/sub/b": "second", "var/data/link": "-> /etc/shadow", "srv": "-> var/data", "etc/x": "",
	})
	for _, path := range []string{"var/data", "var/data/a"} {
		err := os.Chown(filepath.Join(rootfs, path), 1000, 1001)
		if err != nil {
			t.Fatal(err)
		}
	}
	err := os.Chmod(filepath.Join(rootfs, "var/data/a"), 0o4711)
	if err == nil {
		err = unix.Chmod(filepath.Join(rootfs, "var/data/a"), 0o4711)
	}
	if err == nil {
		err = unix.Mkfifo(filepath.Join(rootfs, "var/data/pipe"), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 30}
	m := Mount{Source: volume, Destination: "/srv"} // a link of the image's, which stays inside it
	prepared(t, v, rootfs, m)
	at := func(name string) string { return filepath.Join(v.Path(volume), name) }
	if read(t, at("a")) != "first" || read(t, at("sub/b")) != "second" {
		t.Error("files differ")
	}
	var st unix.Stat_t
	err = unix.Lstat(at("a"), &st)
	if err != nil || st.Uid != 1000 || st.Gid != 1001 || st.Mode&0o7777 != 0o4711 {
		t.Errorf("owner %d:%d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
	target, err := os.Readlink(at("link"))
	if err != nil || target != "/etc/shadow" {
		t.Errorf("the link points to %q, %v", target, err)
	}
	_, err = os.Lstat(at("pipe"))
	if !os.IsNotExist(err) {
		t.Errorf("the pipe was copied: %v", err)
	}
	err = os.Remove(at("a"))
	if err != nil {
		t.Fatal(err)
	}
	prepared(t, v, rootfs, m)
	_, err = os.Lstat(at("a"))
	if !os.IsNotExist(err) {
		t.Error("the volume was filled a second time")
	}
}

func TestCopyUpIsBounded(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("d/", maxCopyDepth+2)
	rootfs := tree(t, map[string]string{"data/" + deep + "x": ""})
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 30}
	err := v.prepare(rootfs, Mount{Source: volume, Destination: "/data"})
	if err == nil || !strings.Contains(err.Error(), "deeper than") {
		t.Fatalf("got %v, want a refusal", err)
	}
	_, err = os.Lstat(v.Path(volume))
	if !os.IsNotExist(err) {
		t.Error("a half-filled volume is left")
	}
	big := filepath.Join(t.TempDir(), "root")
	err = os.MkdirAll(filepath.Join(big, "data"), 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(big, "data", "x"), nil, 0o600)
	}
	if err == nil {
		err = os.Truncate(filepath.Join(big, "data", "x"), maxCopyBytes+1)
	}
	if err != nil {
		t.Fatal(err)
	}
	err = v.prepare(big, Mount{Source: volume, Destination: "/data"})
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// TestVolumesFollowNoLinks puts a link where a volume is to be made: nothing is made behind it.
func TestVolumesFollowNoLinks(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	for _, link := range []string{"tmp", "tmp/atlas", "tmp/atlas/emptydir", "tmp/atlas/emptydir/data"} {
		root := tree(t, map[string]string{link: "-> " + outside})
		v := &Volumes{Root: root}
		err := v.prepare(t.TempDir(), Mount{Source: volume, Destination: "/data"})
		if err == nil {
			t.Errorf("a link at %s was followed", link)
		}
	}
	left, err := os.ReadDir(outside)
	if err != nil || len(left) != 0 {
		t.Errorf("made outside: %v, %v", left, err)
	}
}

// TestRoomInAVolume makes a directory for the agent's own mount in a volume, and follows nothing that another container
// put there.
func TestRoomInAVolume(t *testing.T) {
	t.Parallel()
	v := &Volumes{Root: filepath.Join(t.TempDir(), "volumes"), Budget: 1 << 30}
	m := Mount{Source: volume, Destination: "/run", Options: []string{"ro"}}
	prepared(t, v, t.TempDir(), m)
	for range 2 { // a second container may share it
		err := v.makeRoom(m, "cofferdam")
		if err != nil {
			t.Fatal(err)
		}
	}
	room := filepath.Join(v.Path(volume), "cofferdam")
	info, err := os.Lstat(room)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o755 {
		t.Errorf("room is %v, %v", info, err)
	}
	outside := t.TempDir()
	err = os.Remove(room)
	if err == nil {
		err = os.Symlink(outside, room)
	}
	if err != nil {
		t.Fatal(err)
	}
	if v.makeRoom(m, "cofferdam") == nil {
		t.Error("a link was followed")
	}
}
