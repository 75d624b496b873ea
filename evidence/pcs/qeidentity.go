// SPDX-License-Identifier: Apache-2.0

package pcs

// The values of QEIdentity.ID.
const (
	// IDQE is the quoting enclave for SGX.
	IDQE = "QE"
	// IDTDQE is the quoting enclave for TDX.
	IDTDQE = "TD_QE"
)

// QEIdentity says what Intel's quoting enclave looks like, and which of its versions are worth what.
type QEIdentity struct {
	Signed

	// ID is IDQE or IDTDQE. Version 1 has only the former.
	ID string
	// MiscSelect are the bits that are expected where MiscSelectMask has ones, in the order of a report body's bytes.
	MiscSelect, MiscSelectMask [4]byte
	// Attributes are the bits that are expected where AttributesMask has ones, in the order of a report body's bytes.
	Attributes, AttributesMask [16]byte
	// MRSigner is the SHA-256 of the key that signed the enclave.
	MRSigner [32]byte
	// ISVProdID tells the enclave from others of the same signer.
	ISVProdID uint16
	// Levels are the enclave's TCB levels in the order in which they apply. Version 1 has one, without date and status.
	Levels []EnclaveLevel
}

// identityMembers are the members that every version has, at whatever depth.
var identityMembers = []string{
	"signature", "version", "issueDate", "nextUpdate", "miscselect", "miscselectMask", "attributes", "attributesMask", "mrsigner",
	"isvprodid", "isvsvn",
}

// ParseQEIdentity decodes the identity of a quoting enclave as the service serves it: an object of the members
// enclaveIdentity (qeIdentity in version 1) and signature.
func ParseQEIdentity(b []byte) (*QEIdentity, error) {
	r := &reader{}
	q := &QEIdentity{}
	signed, o := r.open(b, []string{"enclaveIdentity", "qeIdentity"}, identityMembers)
	if len(r.errs) == 0 {
		q.Signed = signed
		q.read(o)
	}
	if err := r.err("QE identity"); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *QEIdentity) read(o object) {
	q.Version = int(o.number("version", 1<<15))
	want := 2
	if o.path == "qeIdentity" {
		want = 1
	}
	if o.has("version") && q.Version != want {
		o.r.fail(o.at("version"), "is %d, not %d", q.Version, want)
	}
	q.dates(o)
	o.hex("miscselect", q.MiscSelect[:])
	o.hex("miscselectMask", q.MiscSelectMask[:])
	o.hex("attributes", q.Attributes[:])
	o.hex("attributesMask", q.AttributesMask[:])
	o.hex("mrsigner", q.MRSigner[:])
	q.ISVProdID = uint16(o.number("isvprodid", 0xffff))
	if want == 1 {
		q.ID = IDQE
		svn := uint16(o.number("isvsvn", 0xffff))
		q.Levels = []EnclaveLevel{{ISVSVN: svn}}
		return
	}
	if q.ID = o.text("id"); q.ID != IDQE && q.ID != IDTDQE && o.has("id") {
		o.r.fail(o.at("id"), "is %.20q, not %q or %q", q.ID, IDQE, IDTDQE)
	}
	q.number(o)
	q.Levels = o.enclaveLevels()
}
