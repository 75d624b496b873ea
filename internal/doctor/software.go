// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"cofferdam.dev/internal/sandbox/qemu"
)

// The versions of QEMU that matter.
var (
	streamVersion = qemu.Version{Major: 7, Minor: 2}
	snpVersion    = qemu.Version{Major: 9, Minor: 1}
	tdxVersion    = qemu.Version{Major: 10, Minor: 1}
)

func checkQEMU(e *qemu.Emulator, err error) Check {
	c := Check{Code: "qemu", Title: "QEMU", Status: Pass}
	if err != nil {
		c.Status, c.Detail, c.Fix = Fail, err.Error(), "apt-get install qemu-system-x86"
		return c
	}
	c.Detail = fmt.Sprintf("%s at %s", e.Version, e.Path)
	switch {
	case !e.StreamNetwork:
		c.Status = Warn
		c.Detail += ": no network backend \"stream\", so QEMU's own network is used"
		c.Fix = fmt.Sprintf("install QEMU %s or newer", streamVersion)
	case !e.SNP && !e.TDX:
		c.Detail += fmt.Sprintf(" (SEV-SNP would need %s, TDX %s)", snpVersion, tdxVersion)
	case !e.TDX:
		c.Detail += fmt.Sprintf(" (TDX would need %s)", tdxVersion)
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

func (m Machine) checkProgram(program, title, fix, why string) Check {
	c := Check{Code: program, Title: title, Status: Pass}
	path, err := m.LookPath(program)
	if err != nil {
		c.Status, c.Detail, c.Fix = Warn, program+" is not on the path; "+why, fix
		return c
	}
	c.Detail = path
	return c
}
