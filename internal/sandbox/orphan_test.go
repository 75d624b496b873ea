// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// ownerAndMachine runs a copy of this test binary that boots a machine and kills itself, and returns the machine's PID.
func ownerAndMachine(t *testing.T) int {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-test.run", "^TestOrphan$", "-test.v")
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_OWNER=1", "TMPDIR="+t.TempDir()) // it can not clean up
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("the owner was to be killed; it said %q", out)
	}
	for line := range strings.Lines(string(out)) {
		var pid int
		_, err = fmt.Sscanf(strings.TrimSpace(line), "PID %d", &pid)
		if err == nil {
			return pid
		}
	}
	t.Fatalf("the owner told no PID: %q", out)
	return 0
}

// isZombie reports whether a process has ended and only waits to be reaped, by whoever adopted it.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}
