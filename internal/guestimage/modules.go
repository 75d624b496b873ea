// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"fmt"
	"strings"

	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/guestimage/kmod"
)

// ModuleList is the file in the guest that names the modules to load. Each line is a group and the path of a module,
// in loading order; "boot" is loaded always and first, any other group is complete together with it. A module may be
// in several groups, so the kernel's "exists already" is no error.
const ModuleList = "etc/cofferdam/modules"

const moduleDir = "usr/lib/modules"

// moduleGroup is a set of modules for one purpose. What is built into Debian's kernel (virtio PCI and console, ext4,
// fuse, sha256, hmac, aes) is not listed; what these need is added from the modules' own metadata.
type moduleGroup struct {
	name    string
	modules []string
	reason  string
}

func moduleGroups() []moduleGroup {
	return []moduleGroup{
		{"boot", []string{"virtio_scsi", "sd_mod", "dm_verity", "overlay", "virtio_net"},
			"layer disks, their verification, the container's root, the network"},
		{"scratch", []string{"dm_integrity", "dm_crypt", "authenc", "xts", "aesni_intel"},
			"disks with an ephemeral key and authenticated sectors"},
		{"volumes", []string{"loop", "erofs", "dm_crypt", "xts", "aesni_intel"},
			"privileged containers that mount the filesystems of encrypted volumes"},
		{"panic", []string{"pvpanic_pci"},
			"tells QEMU of a kernel panic, so that the host can tell it from a restart"},
		{"native", []string{"sha256_ssse3"},
			"fast verification on a real processor; emulated ones are slower with it"},
		{"snp", []string{"sev_guest"},
			"reports of SEV-SNP through configfs"},
		{"tdx", []string{"tdx_guest"},
			"quotes of TDX through configfs"},
	}
}

// moduleEntries returns the archive entries of the module files and of their list.
func moduleEntries(tree *kmod.Tree) ([]cpio.Entry, error) {
	entries := []cpio.Entry{}
	stored := map[string]bool{}
	booted := map[string]bool{}
	var list strings.Builder
	for _, g := range moduleGroups() {
		modules, err := tree.Resolve(g.modules, booted)
		if err != nil {
			return nil, fmt.Errorf("choosing modules of group %s (%s): %w", g.name, g.reason, err)
		}
		for _, m := range modules {
			name := moduleDir + "/" + m.Name + ".ko"
			fmt.Fprintf(&list, "%s /%s\n", g.name, name)
			if g.name == "boot" {
				booted[m.Name] = true
			}
			if !stored[name] {
				stored[name] = true
				entries = append(entries, cpio.File(name, 0o444, m.Data))
			}
		}
	}
	return append(entries, cpio.File(ModuleList, 0o444, []byte(list.String()))), nil
}
