// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
)

// qemuProgram is the emulator that package sandbox starts.
const qemuProgram = "qemu-system-x86_64"

// qemuState is what is known of QEMU.
type qemuState struct {
	path         string
	version      string
	major, minor int
	err          error
}

var qemuVersion = regexp.MustCompile(`version ((\d+)\.(\d+)[.0-9]*)`)

func (m Machine) qemu(ctx context.Context) qemuState {
	path, err := m.LookPath(qemuProgram)
	if err != nil {
		return qemuState{err: fmt.Errorf("%s is not on the path", qemuProgram)}
	}
	out, err := m.Output(ctx, path, "--version")
	if err != nil {
		return qemuState{path: path, err: fmt.Errorf("running %s --version: %w", path, err)}
	}
	v := qemuVersion.FindSubmatch(out)
	if v == nil {
		return qemuState{path: path, err: fmt.Errorf("%s --version names no version", path)}
	}
	s := qemuState{path: path, version: string(v[1])}
	s.major, _ = strconv.Atoi(string(v[2])) // digits, as matched
	s.minor, _ = strconv.Atoi(string(v[3]))
	return s
}

func (q qemuState) atLeast(major, minor int) bool {
	return q.major > major || q.major == major && q.minor >= minor
}

func (m Machine) checkQEMU(q qemuState) Check {
	c := Check{Code: "qemu", Title: "QEMU", Status: Pass}
	switch {
	case q.err != nil:
		c.Status, c.Detail, c.Fix = Fail, q.err.Error(), "apt-get install qemu-system-x86"
	case !q.atLeast(7, 2):
		c.Status = Warn
		c.Detail = q.version + " at " + q.path + ": older than 7.2, the network falls back to QEMU's own"
		c.Fix = "install QEMU 7.2 or newer"
	case !q.atLeast(9, 1):
		c.Detail = q.version + " at " + q.path + " (SEV-SNP would need 9.1, TDX 10.1)"
	case !q.atLeast(10, 1):
		c.Detail = q.version + " at " + q.path + " (TDX would need 10.1)"
	default:
		c.Detail = q.version + " at " + q.path
	}
	return c
}

func (m Machine) checkGuestImage() Check {
	c := Check{Code: "guest-image", Title: "Guest image", Status: Pass}
	found, err := m.GuestImage()
	if err != nil {
		c.Status, c.Detail, c.Fix = Fail, err.Error(), "cofferdam guest build"
		return c
	}
	c.Detail = found
	return c
}

// checkPackages looks for what fetches the guest's kernel.
func (m Machine) checkPackages() Check {
	c := Check{Code: "packages", Title: "Package tools", Status: Pass, Detail: "apt-get and dpkg-deb"}
	for _, p := range []string{"apt-get", "dpkg-deb"} {
		_, err := m.LookPath(p)
		if err != nil {
			c.Status = Warn
			c.Detail = p + " is not on the path; building a guest image fetches Debian's kernel with it"
			c.Fix = "build the guest image on a Debian machine and copy it into guest/ below the state directory"
			return c
		}
	}
	return c
}

func (m Machine) checkProgram(program, title, pkg, why string) Check {
	c := Check{Code: program, Title: title, Status: Pass}
	path, err := m.LookPath(program)
	if err != nil {
		c.Status, c.Detail, c.Fix = Warn, program+" is not on the path; "+why, "apt-get install "+pkg
		return c
	}
	c.Detail = path
	return c
}
