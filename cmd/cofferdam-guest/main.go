// SPDX-License-Identifier: Apache-2.0

// Command cofferdam-guest is the first process of a confidential VM, and the only program in it besides the container
// runtime and the workload. It is measured at launch, so what it imports is the trusted computing base; the list is in
// imports.txt. It takes no argument and reads no configuration but the kernel's command line, which is measured too.
package main

import (
	"context"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent"
	"cofferdam.dev/internal/agent/machine"
)

// build is set by the linker.
var build = "devel"

func main() {
	if os.Getpid() != 1 {
		_, _ = os.Stderr.WriteString("cofferdam-guest is the first process of a virtual machine and nothing else\n")
		os.Exit(2)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)) // the console, which the host reads
	err := agent.Run(context.Background(), build, log)
	if err != nil {
		log.Error("the guest ends", slog.Any("error", err))
	}
	err = machine.New(machine.Config{}).PowerOff()
	log.Error("the machine stays on", slog.Any("error", err))
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_HALT) // whatever else: not on
}
