// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// readMemory reads MemTotal and MemAvailable of a meminfo file, in bytes.
func readMemory(path string) (total, available uint64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	total, err = memoryField(string(text), "MemTotal:")
	if err != nil {
		return 0, 0, err
	}
	available, err = memoryField(string(text), "MemAvailable:")
	return total, available, err
}

func memoryField(text, name string) (uint64, error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != name || f[2] != "kB" {
			continue
		}
		kib, err := strconv.ParseUint(f[1], 10, 54)
		if err != nil {
			return 0, fmt.Errorf("%s %q: %w", name, f[1], err)
		}
		return kib << 10, nil
	}
	return 0, fmt.Errorf("%s is not there", name)
}
