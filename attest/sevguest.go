// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"cofferdam.dev/evidence/snp"
)

// SEVGuestDevice is the device of Linux 5.19 and later (Documentation/virt/coco/sev-guest.rst).
const SEVGuestDevice = "/dev/sev-guest"

// Sizes of the kernel's buffers (include/uapi/linux/sev-guest.h).
const (
	sevReportBuffer = 4000
	sevKeyBuffer    = 64
	// sevCertificates is the largest certificate table that the driver passes on: SEV_FW_BLOB_MAX_SIZE.
	sevCertificates = 16 << 10

	sevMessageVersion = 1
)

// sevRequest is struct snp_guest_request_ioctl. Its addresses are kept as pointers, so that the garbage collector knows of
// them; both have 64 bits wherever SEV exists.
type sevRequest struct {
	version  uint8
	request  unsafe.Pointer
	response unsafe.Pointer
	// exitInfo has the hypervisor's error in its upper and the firmware's in its lower half. Early kernels name it fw_err
	// and use it in the same way.
	exitInfo uint64
}

// sevExtended is struct snp_ext_report_req.
type sevExtended struct {
	data               [snp.ReportRequestSize]byte
	certificates       unsafe.Pointer
	certificatesLength uint32
}

// The calls of the device.
var (
	sevGetReport   = iowr('S', 0, unsafe.Sizeof(sevRequest{}))
	sevGetKey      = iowr('S', 1, unsafe.Sizeof(sevRequest{}))
	sevGetExtended = iowr('S', 2, unsafe.Sizeof(sevRequest{}))
)

// SEVGuest obtains reports and derived keys from the kernel's SEV-SNP guest driver.
type SEVGuest struct{ dev device }

var _ Provider = (*SEVGuest)(nil)

// OpenSEVGuest opens the driver's device, normally SEVGuestDevice.
func OpenSEVGuest(path string) (*SEVGuest, error) {
	d, err := openDevice(path)
	if err != nil {
		return nil, fmt.Errorf("opening SEV guest device: %w", err)
	}
	return &SEVGuest{dev: d}, nil
}

// Kind returns "sev-guest".
func (s *SEVGuest) Kind() string { return KindSEVGuest }

// Close closes the device.
func (s *SEVGuest) Close() error { return s.dev.Close() }

// Report returns a report of privilege level 0, with the host's certificates where the host has any to give. A call in
// progress does not end with ctx: the kernel waits for the firmware.
func (s *SEVGuest) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("getting report from %s: %w", s.Kind(), err)
	}
	request := [snp.ReportRequestSize]byte((&snp.ReportRequest{ReportData: reportData}).Marshal())
	body, certificates, extendedErr := s.extended(request)
	if extendedErr != nil {
		// Certificates are the host's to give or to withhold; the report is the processor's either way.
		var err error
		if body, err = s.plain(request); err != nil {
			return nil, fmt.Errorf("getting report from %s: %w (with certificates: %w)", s.Kind(), err, extendedErr)
		}
	}
	report, err := sevReport(body, reportData)
	if err != nil {
		return nil, fmt.Errorf("getting report from %s: %w", s.Kind(), err)
	}
	return &Result{Type: TypeSEVSNP, Report: report, Certificates: certificates}, nil
}

// DeriveKey returns a key that the processor derives for this guest.
func (s *SEVGuest) DeriveKey(ctx context.Context, r snp.KeyRequest) (snp.DerivedKey, error) {
	if err := ctx.Err(); err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	request := [snp.KeyRequestSize]byte(r.Marshal())
	response := new([sevKeyBuffer]byte)
	defer clear(response[:])
	if err := s.call(sevGetKey, unsafe.Pointer(&request), unsafe.Pointer(response)); err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	key, err := sevKey(response[:])
	if err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	return key, nil
}

func (s *SEVGuest) plain(request [snp.ReportRequestSize]byte) ([]byte, error) {
	response := new([sevReportBuffer]byte)
	if err := s.call(sevGetReport, unsafe.Pointer(&request), unsafe.Pointer(response)); err != nil {
		return nil, err
	}
	return response[:], nil
}

func (s *SEVGuest) extended(request [snp.ReportRequestSize]byte) (body, certificates []byte, err error) {
	table, response := new([sevCertificates]byte), new([sevReportBuffer]byte)
	r := &sevExtended{data: request, certificates: unsafe.Pointer(table), certificatesLength: sevCertificates}
	if err := s.call(sevGetExtended, unsafe.Pointer(r), unsafe.Pointer(response)); err != nil {
		return nil, nil, err
	}
	if empty(table[:]) { // the host answered, and has none
		return response[:], nil, nil
	}
	return response[:], table[:], nil
}

func empty(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// call runs one guest request. The buffers may be the stack's or the heap's: they are pinned until the driver is done.
func (s *SEVGuest) call(number uintptr, request, response unsafe.Pointer) error {
	r := &sevRequest{version: sevMessageVersion, request: request, response: response}
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(request)
	pin.Pin(response)
	err := s.dev.Ioctl(number, unsafe.Pointer(r))
	if err == nil {
		return nil
	}
	if vmm, firmware := uint32(r.exitInfo>>32), uint32(r.exitInfo); r.exitInfo != 0 {
		return fmt.Errorf("%w (hypervisor's error %d, firmware's %#x)", err, vmm, firmware)
	}
	return err
}

// sevReport takes the report out of MSG_REPORT_RSP, which lies in a larger buffer.
func sevReport(b []byte, reportData [64]byte) ([]byte, error) {
	const header = 0x20
	size := uint64(binary.LittleEndian.Uint32(b[4:]))
	if size > uint64(len(b)-header) {
		return nil, fmt.Errorf("answer states a report of %d bytes in %d", size, len(b)-header)
	}
	rsp, err := snp.ParseReportResponse(b[:header+size])
	if err != nil {
		return nil, err
	}
	if rsp.Status != snp.StatusSuccess {
		return nil, fmt.Errorf("firmware answers %s", rsp.Status)
	}
	if err := checkSNP(rsp.Report, reportData); err != nil {
		return nil, err
	}
	return rsp.Report, nil
}

// sevKey takes the key out of MSG_KEY_RSP.
func sevKey(b []byte) (snp.DerivedKey, error) {
	rsp, err := snp.ParseKeyResponse(b)
	if err != nil {
		return snp.DerivedKey{}, err
	}
	if rsp.Status != snp.StatusSuccess {
		return snp.DerivedKey{}, fmt.Errorf("firmware answers %s", rsp.Status)
	}
	return rsp.Key, nil
}
