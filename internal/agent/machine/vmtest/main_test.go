// SPDX-License-Identifier: Apache-2.0

// Package vmtest tests the kernel work of the guest inside a real virtual machine.
//
// The test binary plays both parts. On the host, TestGuest makes disks, boots the built guest image with this same
// binary as PID 1, and repeats the results that come back as its own subtests. In the guest, TestMain boots the system
// as the agent does and runs the subtests. One boot serves all of them.
package vmtest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/boot"
)

const (
	program  = "/vmtest"          // this binary in the guest
	planFile = "/vmtest.json"     // what the host made for it
	outPort  = "cofferdam.test"   // where its output goes
	childEnv = "VMTEST_CHILD"     // names the part that a child process plays
	exitLine = "VMTEST EXIT CODE" // the last line of the output
)

// inGuest is true in PID 1 of the machine, system its booted state.
var (
	inGuest bool
	system  *boot.System
	booted  time.Duration // time that boot.Start took
)

func TestMain(m *testing.M) {
	if part := os.Getenv(childEnv); part != "" {
		os.Exit(child(part))
	}
	if os.Getpid() != 1 {
		os.Exit(m.Run())
	}
	err := runInGuest(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmtest:", err)
	}
	unix.Sync()
	time.Sleep(200 * time.Millisecond) // the port's last bytes
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func runInGuest(m *testing.M) error {
	inGuest = true
	ctx := context.Background()
	start := time.Now()
	var err error
	system, err = boot.Start(ctx, "vmtest")
	if err != nil {
		return err
	}
	booted = time.Since(start)
	port, err := boot.OpenPort(ctx, outPort)
	if err != nil {
		return err
	}
	fd := int(port.Fd()) // also makes it blocking, which the standard streams must be
	for _, std := range []int{1, 2} {
		err = unix.Dup3(fd, std, 0)
		if err != nil {
			return err
		}
	}
	// The host bounds the time: on a machine that is busy while the guest measures its clock, that goes several times too fast.
	os.Args = []string{program, "-test.v", "-test.run=^TestGuest$", "-test.timeout=0"}
	flag.Parse()
	code := m.Run()
	fmt.Printf("\n%s %d\n", exitLine, code)
	return nil
}
