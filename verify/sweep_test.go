// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"context"
	"slices"
	"testing"

	"cofferdam.dev/evidence"
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

// TestNoDamagedVectorIsAccepted flips one bit of every byte, cuts at every length and appends, for report and chip
// certificate of two vectors; for what else there is, at every seventh place, and at every seventieth with -short. The
// pins follow the damage, so that the signatures alone must notice.
func TestNoDamagedVectorIsAccepted(t *testing.T) {
	t.Parallel()
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			doc, opts := acceptable(t, v)
			step := 7
			if v.name == "s1" || v.name == "s6-genoa" {
				step = 1
			}
			if testing.Short() {
				step *= 10
			}
			damage(doc.Report, step, func(what string, at int, b []byte) {
				d := *doc
				d.Report = b
				o := opts
				if len(b) == len(doc.Report) && what == "flip" {
					o = followed(d.Report, opts)
				}
				if Appraise(context.Background(), &d, o).Accepted() {
					t.Errorf("report with %s at %d is accepted", what, at)
				}
			})
			for i, cert := range doc.Certificates {
				if i == 1 {
					step *= 7
				}
				damage(cert, step, func(what string, at int, b []byte) {
					d := *doc
					d.Certificates = slices.Clone(doc.Certificates)
					d.Certificates[i] = b
					if Appraise(context.Background(), &d, opts).Accepted() {
						t.Errorf("certificate %d with %s at %d is accepted", i, what, at)
					}
				})
			}
		})
	}
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
