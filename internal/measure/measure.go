// SPDX-License-Identifier: Apache-2.0

// Package measure computes launch digests: what a processor will report for a guest that is booted from given firmware,
// kernel, initial ramdisk and command line. Relying parties compare reports with them.
//
// It trusts its inputs to be the files that will be booted, and hashes files as streams. Firmware images are parsed
// strictly, since a digest computed of a misread image is worse than none. It never launches anything.
//
// # The simulated scheme
//
// The simulated processor boots a kernel without firmware, so there is no firmware to measure. Its digest is the SNP
// launch digest (SNP ABI, section "Launch Digest") over fewer pages. It starts with 48 zero bytes and takes in:
//
//  1. One page of type NORMAL at guest physical address 0: the kernel hash table that QEMU gives to SNP firmware
//     (SHA-256 of command line with its final zero byte, initial ramdisk, kernel; 176 bytes with padding), then zeros.
//  2. For each virtual processor, counting from 0, one page of type VMSA at guest physical address FFFFFFFFF000h: the
//     text "cofferdam simulated vcpu v1", a zero byte, the number of the processor as a 32-bit little-endian integer,
//     then zeros.
//
// A page enters as D = SHA-384(D ‖ SHA-384(page) ‖ 70h 00h ‖ type ‖ 0 ‖ 0 0 0 ‖ 0 ‖ address), the address with 64 bits
// and little-endian. The page layout of a real guest is never the same as that of 1 and 2, so a simulated digest equals
// no digest of hardware.
package measure

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
)

const pageSize = 4096

// MaxVCPUs bounds the number of virtual processors of any measured guest.
const MaxVCPUs = 4096

// KernelHashes are the SHA-256 digests of what is booted directly.
type KernelHashes struct {
	Kernel [32]byte
	Initrd [32]byte
	// Cmdline is the digest of the command line with a zero byte behind it.
	Cmdline [32]byte
}

// HashBoot hashes a kernel file, an initial ramdisk file and a command line. An empty initrdPath means an empty ramdisk.
func HashBoot(kernelPath, initrdPath, cmdline string) (KernelHashes, error) {
	if strings.ContainsRune(cmdline, 0) {
		return KernelHashes{}, fmt.Errorf("hashing command line: it has a zero byte")
	}
	h := KernelHashes{Initrd: sha256.Sum256(nil), Cmdline: HashCmdline(cmdline)}
	var err error
	if h.Kernel, err = HashFile(kernelPath); err != nil {
		return KernelHashes{}, fmt.Errorf("hashing kernel: %w", err)
	}
	if initrdPath != "" {
		if h.Initrd, err = HashFile(initrdPath); err != nil {
			return KernelHashes{}, fmt.Errorf("hashing initial ramdisk: %w", err)
		}
	}
	return h, nil
}

// HashCmdline hashes a kernel command line as the kernel hash table has it: with a zero byte behind it.
func HashCmdline(cmdline string) [32]byte { return sha256.Sum256([]byte(cmdline + "\x00")) }

// HashFile hashes a file without reading it into memory.
func HashFile(path string) ([32]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return [32]byte{}, err
	}
	defer func() { _ = f.Close() }() // opened for reading
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return [32]byte{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return [32]byte(h.Sum(nil)), nil
}

// Simulated returns the launch digest of the simulated scheme; see the package's documentation.
func Simulated(hashes KernelHashes, vcpus int) [48]byte {
	var d digest
	d.page(pageNormal, 0, hashes.page(0))
	for i := range vcpus {
		page := make([]byte, pageSize)
		n := copy(page, "cofferdam simulated vcpu v1\x00")
		binary.LittleEndian.PutUint32(page[n:], uint32(i))
		d.page(pageVMSA, vmsaAddress, page)
	}
	return d
}
