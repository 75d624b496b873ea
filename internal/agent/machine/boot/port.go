// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// portWait bounds how long OpenPort waits for a port. The driver is part of the kernel, so the ports are normally
// there before PID 1 is.
const portWait = 10 * time.Second

// OpenPort opens the virtio-serial port that the host gave the name. Reading gives end-of-file once the host has closed
// its side.
func OpenPort(ctx context.Context, name string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, portWait)
	defer cancel()
	for {
		device, err := findPort("/sys", name)
		if err != nil {
			return nil, fmt.Errorf("opening port %q: %w", name, err)
		}
		if device != "" {
			f, err := os.OpenFile(filepath.Join("/dev", device), os.O_RDWR, 0)
			if err != nil {
				return nil, fmt.Errorf("opening port %q: %w", name, err)
			}
			return f, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("opening port %q: no port has this name: %w", name, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// findPort returns the device of the port, such as "vport1p1", or "". Two ports of one name are an error.
func findPort(sys, name string) (string, error) {
	files, err := filepath.Glob(filepath.Join(sys, "class", "virtio-ports", "*", "name"))
	if err != nil {
		return "", err
	}
	found := ""
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || strings.TrimSuffix(string(text), "\n") != name {
			continue
		}
		if found != "" {
			return "", fmt.Errorf("several ports have this name")
		}
		found = filepath.Base(filepath.Dir(file))
	}
	return found, nil
}
