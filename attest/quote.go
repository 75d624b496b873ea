// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// Offsets within a DCAP quote and within the bodies that it holds (Intel TDX DCAP quoting library API, appendix "Quote
// Format"; Intel SGX ECDSA quote library reference, appendix A.4).
const (
	quoteHeader     = 48
	quoteBodyHeader = 6 // of version 5: type and size of the body

	quoteTDX uint32 = 0x81
	quoteSGX uint32 = 0

	reportDataInTD      = 520
	reportDataInEnclave = 320
)

// checkQuote requires a quote to be of the TEE and to carry the report data. It looks at nothing else: a quote comes
// through the host, and only the verifier can tell whether it is genuine.
func checkQuote(quote []byte, tee uint32, reportData [64]byte) error {
	if len(quote) < quoteHeader {
		return fmt.Errorf("quote has %d bytes, less than its header of %d", len(quote), quoteHeader)
	}
	version, got := binary.LittleEndian.Uint16(quote), binary.LittleEndian.Uint32(quote[4:])
	if got != tee {
		return fmt.Errorf("quote is of TEE type %#x, not %#x", got, tee)
	}
	at := quoteHeader
	switch {
	case tee == quoteSGX && version == 3, tee == quoteTDX && version == 4:
	case tee == quoteTDX && version == 5:
		at += quoteBodyHeader
	default:
		return fmt.Errorf("quote of TEE type %#x has version %d, which is not known", tee, version)
	}
	if tee == quoteTDX {
		at += reportDataInTD
	} else {
		at += reportDataInEnclave
	}
	if len(quote) < at+len(reportData) {
		return fmt.Errorf("quote has %d bytes and ends before its report data", len(quote))
	}
	if data := quote[at : at+len(reportData)]; subtle.ConstantTimeCompare(data, reportData[:]) != 1 {
		return fmt.Errorf("quote carries report data %x, not %x", data, reportData)
	}
	return nil
}
