// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"encoding/binary"
	"fmt"
)

// ACPITableSize is the size in bytes of the table that says where the event log is. ACPI 6.5, table "CC Event Log ACPI
// Table".
const ACPITableSize = 56

// Constants of the table.
const (
	acpiSignature = "CCEL"
	// acpiTypeTDX is the confidential computing type of Intel TDX.
	acpiTypeTDX = 2
)

// ACPITable is the part of the ACPI table CCEL that matters to a reader of the log. The host can write it as it likes.
type ACPITable struct {
	// Revision is the revision of the table.
	Revision uint8
	// Subtype is the vendor's own.
	Subtype uint8
	// MinLength is the size in bytes of the memory that the log lies in.
	MinLength uint64
	// Address is the physical address of that memory.
	Address uint64
}

// ParseACPITable decodes the ACPI table CCEL of a TD, and requires its checksum to be right.
func ParseACPITable(b []byte) (*ACPITable, error) {
	if len(b) != ACPITableSize {
		return nil, fmt.Errorf("parsing ACPI table CCEL: size is %d bytes, not %d", len(b), ACPITableSize)
	}
	var sum uint8
	for _, v := range b {
		sum += v
	}
	le := binary.LittleEndian
	switch {
	case string(b[:4]) != acpiSignature:
		return nil, fmt.Errorf("parsing ACPI table CCEL: signature is %q", b[:4])
	case le.Uint32(b[4:]) != ACPITableSize:
		return nil, fmt.Errorf("parsing ACPI table CCEL: stated length is %d bytes, not %d", le.Uint32(b[4:]), ACPITableSize)
	case sum != 0:
		return nil, fmt.Errorf("parsing ACPI table CCEL: bytes add up to %#02x, not 0", sum)
	case b[36] != acpiTypeTDX:
		return nil, fmt.Errorf("parsing ACPI table CCEL: type is %d, not %d (Intel TDX)", b[36], acpiTypeTDX)
	}
	return &ACPITable{Revision: b[8], Subtype: b[37], MinLength: le.Uint64(b[40:]), Address: le.Uint64(b[48:])}, nil
}
