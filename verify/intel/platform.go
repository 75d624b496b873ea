// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"fmt"
	"slices"

	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/check"
)

// platform judges which machine it is, and whether the documents are about it and recent enough.
func (a *appraisal) platform(s *statements) {
	a.evaluation(s)
	pck := a.res.PCK
	if pck == nil {
		return // reported already; both checks are mandatory
	}
	a.model(pck, s)
	ids := [][16]byte{pck.PPID}
	if pck.Platform != nil {
		ids = append(ids, pck.Platform.InstanceID)
	}
	in := func(list [][16]byte) bool {
		return slices.ContainsFunc(ids, func(id [16]byte) bool { return slices.Contains(list, id) })
	}
	ok := !in(a.p.DeniedPlatforms) && (len(a.p.AllowedPlatforms) == 0 || in(a.p.AllowedPlatforms))
	expected := fmt.Sprintf("not one of %d that are denied", len(a.p.DeniedPlatforms))
	if n := len(a.p.AllowedPlatforms); n != 0 {
		expected = fmt.Sprintf("one of %d that are allowed, %s", n, expected)
	}
	a.Require(ok, check.PlatformID, check.CodePlatformID, expected, fmt.Sprintf("PPID or instance %x", ids))
}

// model compares the model that the machine's certificate names with the lists and with the TCB info. A TCB info that is
// about something else says nothing, and is dropped.
func (a *appraisal) model(pck *dcap.PCK, s *statements) {
	id := pcs.IDSGX
	if a.res.Quote.TD != nil {
		id = pcs.IDTDX
	}
	actual := fmt.Sprintf("FMSPC %x, PCE ID %x, %s", pck.FMSPC, pck.PCEID, id)
	if slices.Contains(a.p.DeniedModels, pck.FMSPC) || len(a.p.AllowedModels) != 0 && !slices.Contains(a.p.AllowedModels, pck.FMSPC) {
		expected := fmt.Sprintf("not one of %x", a.p.DeniedModels)
		if len(a.p.AllowedModels) != 0 {
			expected = fmt.Sprintf("one of %x, %s", a.p.AllowedModels, expected)
		}
		a.Fail(check.PlatformModel, check.CodePlatformModelNotAllowed, expected, actual)
	}
	if s.info == nil {
		a.Undecided(check.PlatformModel, check.CodeCollateralMissing, "TCB info about it", actual)
		return
	}
	ok := s.info.FMSPC == pck.FMSPC && s.info.PCEID == pck.PCEID && s.info.ID == id
	expected := fmt.Sprintf("TCB info about FMSPC %x, PCE ID %x, %s", s.info.FMSPC, s.info.PCEID, s.info.ID)
	a.Require(ok, check.PlatformModel, check.CodePlatformModel, expected, actual)
	if !ok {
		s.info = nil
	}
}

// evaluation requires both documents to know of a certain TCB recovery event. Documents of several numbers are valid at the
// same time, so that a host could otherwise choose the older one.
func (a *appraisal) evaluation(s *statements) {
	floor := a.p.MinimumEvaluationNumber
	expected := fmt.Sprintf("at least %d", floor)
	if s.info == nil || s.qe == nil {
		a.Undecided(check.TCBEvaluation, check.CodeCollateralMissing, expected, "not both documents could be used")
		return
	}
	a.res.TCB.EvaluationNumber = min(s.info.EvaluationNumber, s.qe.EvaluationNumber)
	a.Require(a.res.TCB.EvaluationNumber >= floor, check.TCBEvaluation, check.CodeEvaluationNumber, expected,
		fmt.Sprintf("TCB info %d, QE identity %d", s.info.EvaluationNumber, s.qe.EvaluationNumber))
}

// quotingEnclave requires the enclave that made the quote to be Intel's, and returns its level.
func (a *appraisal) quotingEnclave(q *dcap.Quote, s *statements) *pcs.Verdict {
	if s.qe == nil {
		a.Undecided(check.QuotingEnclave, check.CodeCollateralMissing, "the enclave of the QE identity", "no QE identity that could be used")
		return nil
	}
	id := pcs.IDQE
	if q.TD != nil {
		id = pcs.IDTDQE
	}
	r := q.QEReport
	misc, attributes := [4]byte{}, r.Attributes.Marshal()
	for i := range misc {
		misc[i] = byte(r.MiscSelect >> (8 * i))
	}
	ok := s.qe.ID == id && q.Header.QEVendorID == dcap.IntelQEVendorID && r.MRSigner == s.qe.MRSigner && r.ISVProdID == s.qe.ISVProdID &&
		masked(misc[:], s.qe.MiscSelectMask[:], s.qe.MiscSelect[:]) &&
		masked(attributes[:], s.qe.AttributesMask[:], s.qe.Attributes[:])
	expected := fmt.Sprintf("%s of vendor %x, signer %x, product %d, MISCSELECT %x under %x, attributes %x under %x", s.qe.ID,
		dcap.IntelQEVendorID, s.qe.MRSigner, s.qe.ISVProdID, s.qe.MiscSelect, s.qe.MiscSelectMask, s.qe.Attributes, s.qe.AttributesMask)
	actual := fmt.Sprintf("%s of vendor %x, signer %x, product %d, MISCSELECT %x, attributes %x", id, q.Header.QEVendorID,
		r.MRSigner, r.ISVProdID, misc, attributes)
	a.Require(ok, check.QuotingEnclave, check.CodeQuotingEnclave, expected, actual)
	if !ok {
		s.qe = nil // it is about something else
		return nil
	}
	return verdictOf(enclaveLevel(s.qe.Levels, r.ISVSVN))
}

// masked reports whether the value has exactly the wanted bits where the mask has ones.
func masked(value, mask, want []byte) bool {
	for i := range value {
		if value[i]&mask[i] != want[i] {
			return false
		}
	}
	return true
}
