// SPDX-License-Identifier: Apache-2.0

package measure

import "encoding/binary"

// The kernel hash table that QEMU writes for OVMF (OvmfPkg/AmdSev): a header and three entries, each a GUID, a 16-bit
// length of the whole and its content, padded to a multiple of 16.
var (
	guidHashTable   = guid("9438d606-4f22-4cc9-b479-a793d411fd21")
	guidHashCmdline = guid("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
	guidHashInitrd  = guid("44baf731-3a2f-4bd7-9af1-41e29169781d")
	guidHashKernel  = guid("4de79437-abd2-427f-b835-d5b172d2045b")
)

const (
	hashEntrySize   = 16 + 2 + 32
	hashTableSize   = 16 + 2 + 3*hashEntrySize
	hashTablePadded = (hashTableSize + 15) &^ 15
)

// page returns the page that holds the hash table at an offset, and zeros elsewhere. The table must fit.
func (h KernelHashes) page(offset int) []byte {
	b := make([]byte, offset, pageSize)
	b = append(b, guidHashTable[:]...)
	b = binary.LittleEndian.AppendUint16(b, hashTableSize)
	for _, e := range []struct {
		guid [16]byte
		hash [32]byte
	}{{guidHashCmdline, h.Cmdline}, {guidHashInitrd, h.Initrd}, {guidHashKernel, h.Kernel}} {
		b = append(b, e.guid[:]...)
		b = binary.LittleEndian.AppendUint16(b, hashEntrySize)
		b = append(b, e.hash[:]...)
	}
	return b[:pageSize]
}
