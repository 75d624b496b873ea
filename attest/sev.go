// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"cofferdam.dev/evidence/snp"
)

// SEVDevice is the device of the 5.x kernels that carried SEV-SNP guest support before Linux 5.19 did, as some clouds
// still run them. On a host a device of the same name belongs to another driver, which refuses this call.
const SEVDevice = "/dev/sev"

// sev5Response is the size that the driver requires of a buffer for MSG_REPORT_RSP: SEV_SNP_REPORT_RSP_BUF_SZ.
const sev5Response = 1280

// sev5Request is struct sev_snp_guest_request of psp-sev-guest.h in those kernels.
type sev5Request struct {
	requestType    uint8
	responseType   uint8
	version        uint8
	requestLength  uint16
	request        unsafe.Pointer
	responseLength uint16
	response       unsafe.Pointer
	firmwareError  uint32
}

// The calls of the device.
var (
	sev5GetReport = iowr('S', 1, unsafe.Sizeof(sev5Request{}))
	sev5GetKey    = iowr('S', 2, unsafe.Sizeof(sev5Request{}))
)

// SEV obtains reports and derived keys from the SEV-SNP guest driver of early kernels. It has no certificates to give.
type SEV struct{ dev device }

var _ Provider = (*SEV)(nil)

// OpenSEV opens the driver's device, normally SEVDevice.
func OpenSEV(path string) (*SEV, error) {
	d, err := openDevice(path)
	if err != nil {
		return nil, fmt.Errorf("opening SEV device: %w", err)
	}
	return &SEV{dev: d}, nil
}

// Kind returns "sev".
func (s *SEV) Kind() string { return KindSEV }

// Close closes the device.
func (s *SEV) Close() error { return s.dev.Close() }

// Report returns a report of privilege level 0. A call in progress does not end with ctx.
func (s *SEV) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("getting report from %s: %w", s.Kind(), err)
	}
	request := [snp.ReportRequestSize]byte((&snp.ReportRequest{ReportData: reportData}).Marshal())
	response := new([sev5Response]byte)
	err := s.call(sev5GetReport, &sev5Request{
		requestType: uint8(snp.MessageReportRequest), responseType: uint8(snp.MessageReportResponse),
		requestLength: snp.ReportRequestSize, request: unsafe.Pointer(&request),
		responseLength: sev5Response, response: unsafe.Pointer(response),
	})
	if err != nil {
		return nil, fmt.Errorf("getting report from %s: %w", s.Kind(), err)
	}
	report, err := sevReport(response[:], reportData)
	if err != nil {
		return nil, fmt.Errorf("getting report from %s: %w", s.Kind(), err)
	}
	return &Result{Type: TypeSEVSNP, Report: report}, nil
}

// DeriveKey returns a key that the processor derives for this guest.
func (s *SEV) DeriveKey(ctx context.Context, r snp.KeyRequest) (snp.DerivedKey, error) {
	if err := ctx.Err(); err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	request := [snp.KeyRequestSize]byte(r.Marshal())
	response := new([sevKeyBuffer]byte)
	defer clear(response[:])
	err := s.call(sev5GetKey, &sev5Request{
		requestType: uint8(snp.MessageKeyRequest), responseType: uint8(snp.MessageKeyResponse),
		requestLength: snp.KeyRequestSize, request: unsafe.Pointer(&request),
		responseLength: sevKeyBuffer, response: unsafe.Pointer(response),
	})
	if err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	key, err := sevKey(response[:])
	if err != nil {
		return snp.DerivedKey{}, fmt.Errorf("deriving key by %s: %w", s.Kind(), err)
	}
	return key, nil
}

func (s *SEV) call(number uintptr, r *sev5Request) error {
	r.version = sevMessageVersion
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(r.request)
	pin.Pin(r.response)
	err := s.dev.Ioctl(number, unsafe.Pointer(r))
	switch {
	case err == nil:
		return nil
	case r.firmwareError != 0:
		return fmt.Errorf("%w (firmware's error %#x)", err, r.firmwareError)
	case errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTTY):
		return fmt.Errorf("%w (on a host, this device belongs to another driver)", err)
	}
	return err
}
