// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/evidence/snp"
)

// maxVMPL is the least privileged level.
const maxVMPL = 3

// Serve answers the guest's messages on its port until the stream ends or ctx does; it then closes the port and returns.
// It returns nil when the guest closed the port between messages or ctx ended, and an error when the guest broke the
// framing. One message is answered at a time and none can be larger than snp.MaxFrameSize, so a hostile guest can keep
// its own port busy and no more. Messages other than MSG_REPORT_REQ, MSG_KEY_REQ and the request for certificates get an
// answer of type snp.MessageInvalid.
func (g *Guest) Serve(ctx context.Context, port io.ReadWriteCloser) error {
	stop := context.AfterFunc(ctx, func() { _ = port.Close() }) // unblocks the read below
	defer func() {
		if stop() {
			_ = port.Close() // the stream has ended already
		}
	}()
	for {
		kind, payload, err := snp.ReadFrame(port)
		switch {
		case ctx.Err() != nil || errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("serving %s: %w", g, err)
		}
		answer, body, err := g.answer(kind, payload)
		if err != nil {
			return fmt.Errorf("serving %s: %w", g, err)
		}
		if err := snp.WriteFrame(port, answer, body); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("serving %s: %w", g, err)
		}
	}
}

// answer handles one message. Its error is a failure of the simulator, never of the guest.
func (g *Guest) answer(kind snp.MessageType, payload []byte) (snp.MessageType, []byte, error) {
	switch kind {
	case snp.MessageReportRequest:
		rsp, err := g.answerReport(payload)
		if err != nil {
			return 0, nil, err
		}
		return snp.MessageReportResponse, rsp.Marshal(), nil
	case snp.MessageKeyRequest:
		rsp, err := g.answerKey(payload)
		if err != nil {
			return 0, nil, err
		}
		return snp.MessageKeyResponse, rsp.Marshal(), nil
	case snp.MessageCertificatesRequest:
		table, err := g.certificateTable()
		return snp.MessageCertificatesResponse, table, err
	}
	return snp.MessageInvalid, nil, nil
}

func (g *Guest) answerReport(payload []byte) (*snp.ReportResponse, error) {
	req, err := snp.ParseReportRequest(payload)
	if err != nil || req.VMPL < g.base.VMPL || req.VMPL > maxVMPL {
		return &snp.ReportResponse{Status: snp.StatusInvalidParameter}, nil
	}
	m, err := g.machine()
	if err != nil {
		return nil, err
	}
	kind, ok := m.chooseKey(req.KeySelect)
	if !ok {
		return &snp.ReportResponse{Status: snp.StatusInvalidKey}, nil
	}
	report, err := g.report(m, kind, req.ReportData, req.VMPL)
	if err != nil {
		return nil, err
	}
	return &snp.ReportResponse{Report: report}, nil
}

// chooseKey follows KEY_SEL of MSG_REPORT_REQ: 0 leaves the choice to the firmware, 1 is the chip's key, 2 the provider's,
// which must be loaded. A masked chip key signs nothing, whoever asks for it.
func (m *Machine) chooseKey(selected uint32) (snp.SigningKey, bool) {
	switch {
	case selected == 0:
		return m.signingKey(), true
	case selected == 1 && m.MaskChipKey:
		return snp.SigningKeyNone, true
	case selected == 1:
		return snp.SigningKeyVCEK, true
	case selected == 2 && m.Provider != "":
		return snp.SigningKeyVLEK, true
	}
	return 0, false
}

func (g *Guest) answerKey(payload []byte) (*snp.KeyResponse, error) {
	req, err := snp.ParseKeyRequest(payload)
	if err != nil {
		return &snp.KeyResponse{Status: snp.StatusInvalidParameter}, nil
	}
	m, err := g.machine()
	if err != nil {
		return nil, err
	}
	if !g.mayDerive(m, req) {
		return &snp.KeyResponse{Status: snp.StatusInvalidParameter}, nil
	}
	if req.RootKey == snp.RootKeyVCEK && m.signingKey() == snp.SigningKeyNone { // the chip's key is masked
		return &snp.KeyResponse{Status: snp.StatusInvalidKey}, nil
	}
	key, err := g.derivedKey(m, req)
	if err != nil {
		return nil, err
	}
	return &snp.KeyResponse{Key: key}, nil
}

// mayDerive holds the limits of MSG_KEY_REQ: a guest gets no key of a more privileged level, of a higher version of
// itself, or of firmware that is not committed.
func (g *Guest) mayDerive(m *Machine, r *snp.KeyRequest) bool {
	want, err := r.TCB.Parts(g.product.line)
	return err == nil && m.Committed.AtLeast(want) && r.RootKey <= snp.RootKeyVMRK && r.Fields.Unknown() == 0 &&
		r.VMPL >= g.base.VMPL && r.VMPL <= maxVMPL && r.GuestSVN <= g.base.GuestSVN
}

// certificateTable is the table that a hypervisor hands to the guest with a report.
func (g *Guest) certificateTable() ([]byte, error) {
	certs, err := g.Certificates()
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 {
		return snp.MarshalCertificateTable(nil)
	}
	leaf := snp.GUIDVCEK
	if cert, err := x509.ParseCertificate(certs[0]); err == nil && cert.Subject.CommonName == "SEV-VLEK" {
		leaf = snp.GUIDVLEK
	}
	return snp.MarshalCertificateTable([]snp.CertificateEntry{
		{GUID: leaf, Data: certs[0]},
		{GUID: snp.GUIDASK, Data: certs[1]},
		{GUID: snp.GUIDARK, Data: certs[2]},
	})
}
