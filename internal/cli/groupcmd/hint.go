// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"fmt"
	"strings"
)

// hints are what to do about failures of a start that a person can mend, by words of the message. The words are QEMU's,
// the kernel's and the OCI runtime's; where they change, a hint is missing and the message still stands.
var hints = []struct{ words, fix string }{
	{"cannot set up guest memory", "a smaller --memory; cofferdam doctor says how much this machine has"},
	{"MiB of memory, ", "a larger --memory: the guest did not fit"},
	{"Initramfs unpacking failed", "a larger --memory: the guest did not fit"},
	{"Out of memory and no killable processes", "a larger --memory: the guest did not fit"},
	{"address already in use", "another host port, or find who has it: ss -lntup"},
	{"cannot assign requested address", "an address of this machine: ip address"},
	{"bind: permission denied", "a host port from 1024 on: lower ones need root"},
	{"the host's disk is full", "make room, or use another state directory: --home DIR"},
	{"no space left on device", "make room, or use another state directory: --home DIR"},
	{"executable file not found", "cofferdam image inspect IMAGE, or another command: it has to be in the image"},
	{"exec format error", "an image for linux/amd64, and a script that begins with #!"},
}

// hint finds the next command for a failed start, "" if there is none.
func hint(message string) string {
	for _, h := range hints {
		if strings.Contains(message, h.words) {
			return h.fix
		}
	}
	return ""
}

// howToLook says where the rest of the story is, for a group that is kept.
func howToLook(name string) string {
	return fmt.Sprintf("cofferdam group debug %s, cofferdam group logs --console %s", name, name)
}
