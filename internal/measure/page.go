// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha512"
	"encoding/binary"
)

// Page types of SNP_LAUNCH_UPDATE. SNP ABI, table "Page types".
const (
	pageNormal     = 1
	pageVMSA       = 2
	pageZero       = 3
	pageUnmeasured = 4
	pageSecrets    = 5
	pageCPUID      = 6
)

// vmsaAddress is the guest physical address under which every VMSA page is measured.
const vmsaAddress = 0xFFFFFFFFF000

// pageInfoSize is the length of the structure that is hashed for each page. SNP ABI, table "PAGE_INFO".
const pageInfoSize = 0x70

// digest is the launch digest so far.
type digest [48]byte

// page takes a page in by its contents.
func (d *digest) page(kind byte, gpa uint64, contents []byte) {
	d.update(kind, gpa, sha512.Sum384(contents))
}

// blank takes in pages whose contents are not measured, or measured as zeros.
func (d *digest) blank(kind byte, gpa, size uint64) {
	for off := uint64(0); off < size; off += pageSize {
		d.update(kind, gpa+off, [48]byte{})
	}
}

func (d *digest) update(kind byte, gpa uint64, contents [48]byte) {
	b := make([]byte, 0, pageInfoSize)
	b = append(b, d[:]...)
	b = append(b, contents[:]...)
	b = binary.LittleEndian.AppendUint16(b, pageInfoSize)
	b = append(b, kind)
	b = append(b, 0, 0, 0, 0, 0) // not an initial migration image; no permissions for VMPL 3, 2, 1; reserved
	b = binary.LittleEndian.AppendUint64(b, gpa)
	*d = sha512.Sum384(b)
}
