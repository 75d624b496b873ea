// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// TestSetup keeps the containers' memory, processes and volumes apart from the agent's. It runs in a mount namespace of
// its own, on a thread that ends with it.
func TestSetup(t *testing.T) {
	testcap.Require(t, testcap.Root)
	dir := t.TempDir()
	r := &Runner{
		Dir: filepath.Join(dir, "bundles"), Cgroups: filepath.Join(dir, "cgroup"), PIDsLimit: 77,
		Volumes: &Volumes{Root: filepath.Join(dir, "volumes"), Network: Network{ResolvConf: "nameserver 192.0.2.1\n"}},
	}
	err := os.Mkdir(r.Cgroups, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	var outside, volumes unix.Statfs_t
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = r.Setup(1 << 20)
		}
		if err == nil {
			err = unix.Statfs(r.Dir, &outside)
		}
		if err == nil {
			err = unix.Statfs(r.Volumes.Root, &volumes)
		}
		done <- err
	}()
	err = <-done
	if err != nil {
		t.Fatal(err)
	}
	const want = unix.ST_NOSUID | unix.ST_NODEV
	if volumes.Type != unix.TMPFS_MAGIC || volumes.Flags&want != want || volumes.Fsid == outside.Fsid {
		t.Errorf("the volumes lie on a filesystem of type %#x, flags %#x, %v; beside them is %v", volumes.Type, volumes.Flags, volumes.Fsid, outside.Fsid)
	}
	for file, want := range map[string]string{"memory.max": "1048576", "pids.max": "77"} {
		if got := read(t, filepath.Join(r.Cgroups, "c", file)); got != want {
			t.Errorf("%s of all containers is %q, want %q", file, got, want)
		}
	}
}
