// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"math/big"
	"slices"
	"testing"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/testamd"
	"cofferdam.dev/verify/check"
)

// acceptable returns a vector's document and options under which it is accepted.
func acceptable(t *testing.T, v vector) (*evidence.Document, Options) {
	t.Helper()
	doc := v.document(t)
	opts := pinned(t, doc)
	opts.SNP.AllowDebug, opts.SNP.AllowProvisionalTCB = true, true
	if got := Appraise(context.Background(), doc, opts); !got.Accepted() {
		t.Fatalf("the untouched vector is not accepted: %v", codes(got))
	}
	return doc, opts
}

// TestNoDamagedVectorIsAccepted flips one bit of every byte, cuts at every length and appends, for report and certificates
// of all vectors, and no byte of report and chip certificate is left out: an SNP report has no padding that may differ. Of
// the authorities' certificates it takes every fifth place, with -short of everything every tenth. The pins follow the damage, so that the signatures alone must notice. The verifier has seen the
// untouched evidence before, and remembers what it verified.
func TestNoDamagedVectorIsAccepted(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 10
	}
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			doc, opts := acceptable(t, v)
			f := NewVerifier(1000)
			if got := f.Appraise(context.Background(), doc, opts); !got.Accepted() {
				t.Fatal(codes(got))
			}
			damage(doc.Report, step, func(what string, at int, b []byte) {
				d := *doc
				d.Report = b
				o := opts
				if len(b) == len(doc.Report) && what == "flip" {
					o = followed(d.Report, opts)
				}
				if f.Appraise(context.Background(), &d, o).Accepted() {
					t.Errorf("report with %s at %d is accepted", what, at)
				}
			})
			for i, cert := range doc.Certificates {
				step := step
				if i > 0 {
					step = max(step, 5)
				}
				damage(cert, step, func(what string, at int, b []byte) {
					d := *doc
					d.Certificates = slices.Clone(doc.Certificates)
					d.Certificates[i] = b
					if f.Appraise(context.Background(), &d, opts).Accepted() {
						t.Errorf("certificate %d with %s at %d is accepted", i, what, at)
					}
				})
			}
		})
	}
}

// TestNoDamagedListIsUsed damages a revocation list that names the intermediate. Whatever is left of it, the verdict never
// gets better than with no list at all.
func TestNoDamagedListIsUsed(t *testing.T) {
	t.Parallel()
	authority, doc, o := known(t)
	o.SNP.RequireRevocation = true
	name := collateral.CRL("Milan", false).Name()
	list := authority.CRL(t, testamd.List{
		From: o.Now.AddDate(0, 0, -1), Until: o.Now.AddDate(0, 0, 1), Serials: []*big.Int{authority.Intermediate.SerialNumber},
	})
	step := 1
	if testing.Short() {
		step = 10
	}
	f := NewVerifier(1000)
	d := *doc
	d.Collateral = map[string]evidence.Item{name: {Body: list}}
	expect(t, f.Appraise(t.Context(), &d, o), Refused, check.CodeCertificateRevoked)
	damage(list, step, func(what string, at int, b []byte) {
		if len(b) == 0 {
			return // a document holds no empty item
		}
		d.Collateral = map[string]evidence.Item{name: {Body: b}}
		if v := f.Appraise(t.Context(), &d, o); v.Accepted() {
			t.Errorf("list with %s at %d leads to acceptance", what, at)
		}
	})
}

// followed pins whatever the damaged report says.
func followed(report []byte, o Options) Options {
	o.ReportData = [][]byte{report[0x50:0x90]}
	o.Measurements = [][]byte{report[0x90:0xc0]}
	o.HostData = [][32]byte{[32]byte(report[0xc0:0xe0])}
	o.SNP.MaxVMPL = 1<<32 - 1
	o.SNP.AllowMigrationAgent, o.SNP.Providers = true, []string{"p"}
	return o
}

func damage(b []byte, step int, try func(what string, at int, b []byte)) {
	for i := 0; i < len(b); i += step {
		d := slices.Clone(b)
		d[i] ^= 1 << (i % 8)
		try("flip", i, d)
	}
	for i := 0; i < len(b); i += step {
		try("cut", i, b[:i])
	}
	for _, tail := range [][]byte{{0}, {1}, make([]byte, 4096)} {
		try("tail", len(tail), slices.Concat(b, tail))
	}
}
