// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unmountPatience is how long a directory may stay busy that nobody uses any more.
const unmountPatience = time.Minute

// Unmount unmounts a directory that nobody uses any more. What the test has closed is still open for a moment in a process
// that another test has just started, until that runs its program, and so long the directory is busy.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	err := unix.Unmount(dir, 0)
	for end := time.Now().Add(unmountPatience); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = unix.Unmount(dir, 0) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Errorf("unmounting %s: %v", dir, err)
	}
}
