// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// fill takes all room of a small disk.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	err = f.Close()
	if err != nil {
		t.Fatal(err)
	}
}

// TestRecordOnFullDisk fills the disk while a group runs: how the group ended must be told all the same.
func TestRecordOnFullDisk(t *testing.T) {
	testcap.Require(t, testcap.Root)
	home := t.TempDir()
	err := unix.Mount("tmpfs", home, "tmpfs", 0, "size=1m")
	if err != nil {
		t.Skipf("mounting: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(home, unix.MNT_DETACH) })
	s, err := OpenStore(home)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Create(testPlan("web"))
	if err != nil {
		t.Fatal(err)
	}
	fill(t, home)
	c.Record.State = StateRunning
	err = WriteRecord(c.Dir, c.Record) // takes the room
	if err != nil {
		t.Fatal(err)
	}
	Settle(c.Record, StateExited, "stopped", time.Now())
	err = errors.Join(WriteRecord(c.Dir, c.Record), c.release())
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Lookup("web")
	if err != nil || g.Alive || g.Record.State != StateExited {
		t.Errorf("the group is %+v, %v; want it exited", g, err)
	}
	fill(t, home)
	_, err = s.Create(testPlan("late"))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a group is made on a full disk: %v", err)
	}
	err = s.Remove("web")
	if err != nil {
		t.Error(err)
	}
	groups, err := s.List()
	if err != nil || len(groups) > 0 {
		t.Errorf("%d groups are left, %v", len(groups), err)
	}
}

// TestReserveEnds checks that a group that has ended sets nothing aside.
func TestReserveEnds(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	c := create(t, s, "web")
	info, err := os.Stat(filepath.Join(c.Dir, fileReserve))
	if err != nil || info.Size() != reserveSize {
		t.Fatalf("the reserve is %v, %v", info, err)
	}
	Settle(c.Record, StateExited, "", time.Now())
	err = WriteRecord(c.Dir, c.Record)
	if err != nil {
		t.Fatal(err)
	}
	_, err = os.Stat(filepath.Join(c.Dir, fileReserve))
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reserve is left: %v", err)
	}
}
