// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/tdx"
)

// TestLayouts holds the structures against the kernel's: sizes and offsets as a C compiler lays them out on x86-64, and the
// numbers of the calls that follow from them.
func TestLayouts(t *testing.T) {
	t.Parallel()
	var r sevRequest
	var e sevExtended
	var five sev5Request
	var td tdxRequest
	for _, c := range []struct {
		name      string
		got, want uintptr
	}{
		{"snp_guest_request_ioctl", unsafe.Sizeof(r), 32},
		{"snp_guest_request_ioctl.msg_version", unsafe.Offsetof(r.version), 0},
		{"snp_guest_request_ioctl.req_data", unsafe.Offsetof(r.request), 8},
		{"snp_guest_request_ioctl.resp_data", unsafe.Offsetof(r.response), 16},
		{"snp_guest_request_ioctl.exitinfo2", unsafe.Offsetof(r.exitInfo), 24},
		{"snp_ext_report_req", unsafe.Sizeof(e), 112},
		{"snp_ext_report_req.data", unsafe.Offsetof(e.data), 0},
		{"snp_ext_report_req.certs_address", unsafe.Offsetof(e.certificates), 96},
		{"snp_ext_report_req.certs_len", unsafe.Offsetof(e.certificatesLength), 104},
		{"sev_snp_guest_request", unsafe.Sizeof(five), 40},
		{"sev_snp_guest_request.rsp_msg_type", unsafe.Offsetof(five.responseType), 1},
		{"sev_snp_guest_request.msg_version", unsafe.Offsetof(five.version), 2},
		{"sev_snp_guest_request.request_len", unsafe.Offsetof(five.requestLength), 4},
		{"sev_snp_guest_request.request_uaddr", unsafe.Offsetof(five.request), 8},
		{"sev_snp_guest_request.response_len", unsafe.Offsetof(five.responseLength), 16},
		{"sev_snp_guest_request.response_uaddr", unsafe.Offsetof(five.response), 24},
		{"sev_snp_guest_request.error", unsafe.Offsetof(five.firmwareError), 32},
		{"tdx_report_req", unsafe.Sizeof(td), 1088},
		{"tdx_report_req.tdreport", unsafe.Offsetof(td.report), 64},
		{"SNP_GET_REPORT", sevGetReport, 0xc0205300},
		{"SNP_GET_DERIVED_KEY", sevGetKey, 0xc0205301},
		{"SNP_GET_EXT_REPORT", sevGetExtended, 0xc0205302},
		{"SEV_SNP_GUEST_MSG_REPORT", sev5GetReport, 0xc0285301},
		{"SEV_SNP_GUEST_MSG_KEY", sev5GetKey, 0xc0285302},
		{"TDX_CMD_GET_REPORT0", tdxGetReport, 0xc4405401},
	} {
		if c.got != c.want {
			t.Errorf("%s is %#x, the kernel has %#x", c.name, c.got, c.want)
		}
	}
}

// fakeDriver plays the drivers over the real structures.
type fakeDriver struct {
	t        *testing.T
	table    []byte // of certificates
	fail     map[uintptr]error
	exitInfo uint64
	status   snp.Status
	wrong    bool // answer with other report data
	spoil    func([]byte)
	calls    []uintptr
}

func (d *fakeDriver) Close() error { return nil }

func (d *fakeDriver) Ioctl(number uintptr, argument unsafe.Pointer) error {
	d.calls = append(d.calls, number)
	switch number {
	case sevGetReport, sevGetKey, sevGetExtended:
		r := (*sevRequest)(argument)
		if r.version != 1 {
			d.t.Errorf("message version is %d", r.version)
		}
		if err := d.fail[number]; err != nil {
			r.exitInfo = d.exitInfo
			return err
		}
		if number == sevGetExtended {
			e := (*sevExtended)(r.request)
			copy(unsafe.Slice((*byte)(e.certificates), e.certificatesLength), d.table)
			copy(unsafe.Slice((*byte)(r.response), sevReportBuffer), d.reportResponse(e.data[:]))
			return nil
		}
		size := sevReportBuffer
		if number == sevGetKey {
			size = sevKeyBuffer
		}
		d.answer(number == sevGetKey, r.request, r.response, size)
	case sev5GetReport, sev5GetKey:
		r := (*sev5Request)(argument)
		if err := d.fail[number]; err != nil {
			r.firmwareError = uint32(d.exitInfo)
			return err
		}
		key := number == sev5GetKey
		want := sev5Request{requestType: 5, responseType: 6, version: 1, requestLength: 96, responseLength: 1280}
		if key {
			want = sev5Request{requestType: 3, responseType: 4, version: 1, requestLength: 32, responseLength: 64}
		}
		got := *r
		got.request, got.response = nil, nil
		if got != want {
			d.t.Errorf("request is %+v, not %+v", got, want)
		}
		d.answer(key, r.request, r.response, int(r.responseLength))
	case tdxGetReport:
		r := (*tdxRequest)(argument)
		if err := d.fail[number]; err != nil {
			return err
		}
		data := r.reportData
		if d.wrong {
			data[0] ^= 1
		}
		copy(r.report[:], (&tdx.Report{ReportData: data, TD: tdx.Info{MRConfigID: [48]byte{7}}}).Marshal())
		if d.spoil != nil {
			d.spoil(r.report[:])
		}
	default:
		return syscall.ENOTTY
	}
	return nil
}

func (d *fakeDriver) answer(key bool, request, response unsafe.Pointer, size int) {
	if !key {
		copy(unsafe.Slice((*byte)(response), size), d.reportResponse(unsafe.Slice((*byte)(request), snp.ReportRequestSize)))
		return
	}
	req, err := snp.ParseKeyRequest(unsafe.Slice((*byte)(request), snp.KeyRequestSize))
	if err != nil {
		d.t.Error(err)
		return
	}
	rsp := snp.KeyResponse{Status: d.status}
	if d.status == 0 {
		rsp.Key[0] = byte(req.GuestSVN)
	}
	copy(unsafe.Slice((*byte)(response), size), rsp.Marshal())
}

func (d *fakeDriver) reportResponse(request []byte) []byte {
	req, err := snp.ParseReportRequest(request)
	if err != nil {
		d.t.Error(err)
		return nil
	}
	if d.wrong {
		req.ReportData[0] ^= 1
	}
	rsp := &snp.ReportResponse{Status: d.status}
	if d.status == 0 {
		rsp.Report = report(req.ReportData)
	}
	b := rsp.Marshal()
	if d.spoil != nil {
		d.spoil(b)
	}
	return b
}

// sources are the two drivers for SEV-SNP.
func sources(d *fakeDriver) map[string]interface {
	Provider
	DeriveKey(context.Context, snp.KeyRequest) (snp.DerivedKey, error)
} {
	return map[string]interface {
		Provider
		DeriveKey(context.Context, snp.KeyRequest) (snp.DerivedKey, error)
	}{KindSEVGuest: &SEVGuest{d}, KindSEV: &SEV{d}}
}

func TestSEVReports(t *testing.T) {
	t.Parallel()
	data := [64]byte{1, 2, 63: 9}
	d := &fakeDriver{t: t}
	for kind, s := range sources(d) {
		r, err := s.Report(t.Context(), data)
		if err != nil || r.Type != TypeSEVSNP || !bytes.Equal(r.Report, report(data)) || len(r.Certificates) != 0 {
			t.Errorf("%s: %+v, %v", kind, r, err)
		}
		if s.Kind() != kind {
			t.Errorf("kind is %q, not %q", s.Kind(), kind)
		}
		key, err := s.DeriveKey(t.Context(), snp.KeyRequest{GuestSVN: 7})
		if err != nil || key[0] != 7 {
			t.Errorf("%s: key: %v", kind, err)
		}
	}
	table, err := snp.MarshalCertificateTable([]snp.CertificateEntry{{GUID: snp.GUIDVCEK, Data: []byte("vcek")}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := (&SEVGuest{&fakeDriver{t: t, table: table}}).Report(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := snp.ParseCertificateTable(r.Certificates)
	if err != nil || len(entries) != 1 || string(entries[0].Data) != "vcek" {
		t.Errorf("certificates are %v, %v", entries, err)
	}
}

// TestReportWithoutCertificates has a host refuse the extended request: the report does not depend on the host's goodwill.
func TestReportWithoutCertificates(t *testing.T) {
	t.Parallel()
	d := &fakeDriver{t: t, fail: map[uintptr]error{sevGetExtended: syscall.EIO}, exitInfo: 1 << 32}
	s := &SEVGuest{d}
	r, err := s.Report(t.Context(), [64]byte{1})
	if err != nil || len(r.Certificates) != 0 || len(d.calls) != 2 {
		t.Errorf("%+v, %v after calls %#x", r, err, d.calls)
	}
	d.fail[sevGetReport] = syscall.EIO
	_, err = s.Report(t.Context(), [64]byte{1})
	if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "hypervisor's error 1") {
		t.Errorf("error is %v", err)
	}
}

func TestSEVRefusesWrongAnswers(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*fakeDriver{
		"other report data":  {wrong: true},
		"refusal":            {status: snp.StatusInvalidParameter},
		"size beyond buffer": {spoil: func(b []byte) { binary.LittleEndian.PutUint32(b[4:], 4000) }},
		"huge size":          {spoil: func(b []byte) { binary.LittleEndian.PutUint32(b[4:], 0xffffffff) }},
		"no report":          {spoil: func(b []byte) { clear(b) }},
		"reserved byte":      {spoil: func(b []byte) { b[0x20+0x4c] = 1 }},
	} {
		d.t = t
		for kind, s := range sources(d) {
			if r, err := s.Report(t.Context(), [64]byte{1}); err == nil || r != nil {
				t.Errorf("%s from %s: %+v, %v", name, kind, r, err)
			}
		}
	}
	refusing := &fakeDriver{t: t, status: snp.StatusInvalidParameter}
	broken := &fakeDriver{t: t, exitInfo: 0x16, fail: map[uintptr]error{sevGetKey: syscall.EIO, sev5GetKey: syscall.EIO, sev5GetReport: syscall.EIO}}
	for kind, s := range sources(refusing) {
		if _, err := s.DeriveKey(t.Context(), snp.KeyRequest{}); err == nil || !strings.Contains(err.Error(), "0x16") {
			t.Errorf("%s: refused key: %v", kind, err)
		}
	}
	for kind, s := range sources(broken) {
		if _, err := s.DeriveKey(t.Context(), snp.KeyRequest{}); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "0x16") {
			t.Errorf("%s: failed key: %v", kind, err)
		}
	}
	if _, err := (&SEV{broken}).Report(t.Context(), [64]byte{}); !errors.Is(err, syscall.EIO) {
		t.Errorf("failed report: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for kind, s := range sources(&fakeDriver{t: t}) {
		_, err1 := s.Report(ctx, [64]byte{})
		_, err2 := s.DeriveKey(ctx, snp.KeyRequest{})
		if !errors.Is(err1, context.Canceled) || !errors.Is(err2, context.Canceled) {
			t.Errorf("%s after the context's end: %v, %v", kind, err1, err2)
		}
	}
}

func TestTDX(t *testing.T) {
	t.Parallel()
	data := [64]byte{4}
	quotes := open(t, &fakeConfigfs{provider: "tdx_guest", quote: true})
	d := &TDX{dev: &fakeDriver{t: t}, quotes: quotes}
	r, err := d.Report(t.Context(), data)
	if err != nil || r.Type != TypeTDX || d.Kind() != KindTDX {
		t.Errorf("%+v, %v", r, err)
	}
	local, err := d.LocalReport(t.Context(), data)
	if err != nil || local.TD.MRConfigID != [48]byte{7} || local.ReportData != data {
		t.Errorf("%+v, %v", local, err)
	}
	for name, f := range map[string]*fakeDriver{
		"other report data": {wrong: true},
		"fails":             {fail: map[uintptr]error{tdxGetReport: syscall.EIO}},
		"other type":        {spoil: func(b []byte) { b[0] = 0 }},
	} {
		f.t = t
		if r, err := (&TDX{dev: f}).LocalReport(t.Context(), data); err == nil || r != nil {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	snpQuotes := &TDX{dev: &fakeDriver{t: t}, quotes: open(t, &fakeConfigfs{provider: "sev_guest"})}
	if r, err := snpQuotes.Report(t.Context(), data); err == nil {
		t.Errorf("a report of another TEE is a quote: %+v", r)
	}
}

// TestDevicesMustBeDevices puts files where devices belong.
func TestDevicesMustBeDevices(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sev-guest")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err1 := OpenSEVGuest(path)
	_, err2 := OpenSEV(path)
	_, err3 := OpenTDX(path, t.TempDir())
	for i, err := range []error{err1, err2, err3} {
		if err == nil || !strings.Contains(err.Error(), "no character device") {
			t.Errorf("device %d: %v", i, err)
		}
	}
	// Another device of the right name does not know the call.
	s, err := OpenSEVGuest("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Report(t.Context(), [64]byte{}); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("the null device answers %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
