// SPDX-License-Identifier: Apache-2.0

// Bareinit is the smallest PID 1 that shows that a machine has booted: it opens the control port, writes one line to
// it, and switches the machine off when the other side closes the port. It is the reference that the benchmark
// compares the real guest with, in the same machine with the same kernel, and is part of no image.
package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Line is what the program writes.
const line = "BARE-INIT\n"

const portName = "cofferdam.ctl"

func main() {
	if err := run(); err != nil {
		_, _ = os.Stderr.WriteString("bareinit: " + err.Error() + "\n") // there is nowhere else to say it
	}
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF) // without it the kernel panics, which ends QEMU too
}

func run() error {
	for _, m := range []struct{ source, target, kind string }{{"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}} {
		if err := syscall.Mount(m.source, m.target, m.kind, 0, ""); err != nil {
			return err
		}
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	if _, err := port.WriteString(line); err != nil {
		return err
	}
	_, _ = port.Read(make([]byte, 1)) // any answer, or the end, is the sign to stop
	return nil
}

// openPort finds the port by its name. The device appears with the driver, which may come after PID 1 begins.
func openPort() (*os.File, error) {
	for range 1000 {
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			text, err := os.ReadFile(n)
			if err == nil && strings.TrimSpace(string(text)) == portName {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(n)), os.O_RDWR, 0)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("no port named " + portName)
}
