// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"crypto/subtle"
	"fmt"
	"unsafe"

	"cofferdam.dev/evidence/tdx"
)

// TDXDevice is the device of Linux 6.2 and later in a TD (Documentation/virt/coco/tdx-guest.rst).
const TDXDevice = "/dev/tdx_guest"

// tdxRequest is struct tdx_report_req (include/uapi/linux/tdx-guest.h).
type tdxRequest struct {
	reportData [64]byte
	report     [tdx.ReportSize]byte
}

// tdxGetReport is TDX_CMD_GET_REPORT0.
var tdxGetReport = iowr('T', 1, unsafe.Sizeof(tdxRequest{}))

// TDX obtains what a TD can have: local reports from the TDX module through the driver's device, and quotes through
// configfs-tsm.
//
// The two differ in whom they come from. A local report comes from the module, which the host can not alter, and it says
// to the TD itself what it is. A quote is made from one by a service of the host: it convinces others, who check its
// signature, and says nothing to a TD that does not.
type TDX struct {
	dev    device
	quotes *Configfs
}

var _ Provider = (*TDX)(nil)

// OpenTDX opens the driver's device, normally TDXDevice, and the configfs-tsm directory, normally ConfigfsRoot.
func OpenTDX(path, configfs string) (*TDX, error) {
	d, err := openDevice(path)
	if err != nil {
		return nil, fmt.Errorf("opening TDX guest device: %w", err)
	}
	c, err := OpenConfigfs(configfs)
	if err != nil {
		_ = d.Close() // nothing was done with it
		return nil, fmt.Errorf("opening TDX guest device: quotes: %w", err)
	}
	return &TDX{dev: d, quotes: c}, nil
}

// Kind returns "tdx".
func (t *TDX) Kind() string { return KindTDX }

// Close closes the device.
func (t *TDX) Close() error { return t.dev.Close() }

// Report returns a quote.
func (t *TDX) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	r, err := t.quotes.Report(ctx, reportData)
	if err != nil {
		return nil, err
	}
	if r.Type != TypeTDX {
		return nil, fmt.Errorf("getting quote from %s: report is of type %q, not %q", t.quotes.root, r.Type, TypeTDX)
	}
	return r, nil
}

// LocalReport returns what the TDX module says of this TD. A call in progress does not end with ctx.
func (t *TDX) LocalReport(ctx context.Context, reportData [64]byte) (*tdx.Report, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("getting local report from %s: %w", t.Kind(), err)
	}
	req := &tdxRequest{reportData: reportData}
	if err := t.dev.Ioctl(tdxGetReport, unsafe.Pointer(req)); err != nil {
		return nil, fmt.Errorf("getting local report from %s: %w", t.Kind(), err)
	}
	r, err := tdx.ParseReport(req.report[:])
	if err != nil {
		return nil, fmt.Errorf("getting local report from %s: %w", t.Kind(), err)
	}
	if subtle.ConstantTimeCompare(r.ReportData[:], reportData[:]) != 1 {
		return nil, fmt.Errorf("local report from %s carries report data %x, not %x", t.Kind(), r.ReportData, reportData)
	}
	return r, nil
}
