// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
)

const (
	mebi = 1 << 20
	gibi = 1 << 30

	// besideMemory is what QEMU and the supervisor take beside a guest's memory.
	besideMemory = 256 * mebi
	// needMemory is the smallest group, wantMemory one of default size.
	needMemory = spec.MinMemoryMiB*mebi + besideMemory
	wantMemory = 512*mebi + besideMemory
	// wantDisk is room for the guest image and a few images in three forms: pulled, converted, and in conversion.
	wantDisk = 5 * gibi
	// needDisk is room for one small image.
	needDisk = 1 * gibi
	// wantFiles is what one supervisor with many forwarded connections uses.
	wantFiles = 4096
)

func (m Machine) checkMemory() Check {
	c := Check{Code: "memory", Title: "Memory", Status: Pass}
	available, err := m.memoryAvailable()
	switch {
	case err != nil:
		c.Status, c.Detail = Warn, "reading /proc/meminfo: "+err.Error()
	case available < needMemory:
		c.Status = Fail
		c.Detail = fmt.Sprintf("%d MiB available; the smallest group (--memory %dm) needs %d MiB", available/mebi, spec.MinMemoryMiB, needMemory/mebi)
		c.Fix = "stop something: `cofferdam group ps` lists the groups that run"
	case available < wantMemory:
		c.Status = Warn
		c.Detail = fmt.Sprintf("%d MiB available; a group of default size needs %d MiB", available/mebi, wantMemory/mebi)
		c.Fix = fmt.Sprintf("stop something, or run with less: --memory %dm is the least", spec.MinMemoryMiB)
	default:
		c.Detail = fmt.Sprintf("%d MiB available", available/mebi)
	}
	return c
}

func (m Machine) memoryAvailable() (uint64, error) {
	b, err := fs.ReadFile(m.Files, "proc/meminfo")
	if err != nil {
		return 0, err
	}
	s := bufio.NewScanner(bytes.NewReader(b))
	for s.Scan() {
		rest, ok := strings.CutPrefix(s.Text(), "MemAvailable:")
		if !ok {
			continue
		}
		kib, err := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 53)
		if err != nil {
			return 0, err
		}
		return kib * 1024, nil
	}
	return 0, errors.New("no line MemAvailable")
}

func (m Machine) checkDisk() Check {
	c := Check{Code: "disk", Title: "Disk", Status: Pass}
	free, err := m.Free(m.Home)
	switch {
	case err != nil:
		c.Status, c.Detail = Warn, "asking for free space below "+m.Home+": "+err.Error()
	case free < needDisk:
		c.Status, c.Detail, c.Fix = Fail, diskDetail(free, m.Home), "free some space, or choose another place with --home"
	case free < wantDisk:
		c.Status, c.Detail, c.Fix = Warn, diskDetail(free, m.Home)+"; large images need more", "choose another place with --home"
	default:
		c.Detail = diskDetail(free, m.Home)
	}
	return c
}

func diskDetail(free uint64, home string) string {
	return fmt.Sprintf("%.1f GiB free for %s", float64(free)/gibi, home)
}

func (m Machine) checkOpenFiles() Check {
	c := Check{Code: "open-files", Title: "Open files", Status: Pass}
	limit, err := m.OpenFiles()
	switch {
	case err != nil:
		c.Status, c.Detail = Warn, "asking for the limit: "+err.Error()
	case limit < wantFiles:
		c.Status = Warn
		c.Detail = fmt.Sprintf("a process may open %d files; many forwarded connections need more", limit)
		c.Fix = fmt.Sprintf("ulimit -Hn %d (as root)", wantFiles)
	default:
		c.Detail = fmt.Sprintf("a process may open %d files", limit)
	}
	return c
}
