// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/simsp"
)

// makeEvidence launches a made-up guest on the simulated processor of COFFERDAM_HOME and prints evidence of it. The
// launch measurement goes to standard error. The guest "boots" the policy file as kernel and initial ramdisk: the
// processor measures files and does not care.
func makeEvidence() {
	policy := flag.String("policy", "", "policy file")
	nonce := flag.String("nonce", "", "nonce in hexadecimal")
	data := flag.String("runtime-data", "", "runtime data")
	bare := flag.Bool("bare", false, "leave the policy's text out of the document")
	noCerts := flag.Bool("no-certificates", false, "leave the certificates out of the document")
	flag.Parse()
	b, m, err := simulate(*policy, *nonce, *data, *bare, *noCerts)
	if err != nil {
		fatalf("%v", err)
	}
	fmt.Fprintf(os.Stderr, "%x\n", m)
	_, err = os.Stdout.Write(b)
	if err != nil {
		fatalf("%v", err)
	}
}

func simulate(policyFile, nonceHex, data string, bare, noCerts bool) ([]byte, [48]byte, error) {
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return nil, [48]byte{}, err
	}
	nonce, err := hex.DecodeString(nonceHex)
	if err != nil {
		return nil, [48]byte{}, err
	}
	p, err := simsp.Open(filepath.Join(os.Getenv("COFFERDAM_HOME"), "simsp"))
	if err != nil {
		return nil, [48]byte{}, err
	}
	g, err := p.Launch(simsp.Launch{
		KernelPath: policyFile, InitrdPath: policyFile, Cmdline: "cofferdam.tee=simulated", VCPUs: 1,
		HostData: sha256.Sum256(text), Policy: snp.PolicySMT | snp.PolicyReservedOne,
	})
	if err != nil {
		return nil, [48]byte{}, err
	}
	here, there := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { _ = g.Serve(ctx, there) }() // ends with ctx
	r, err := attest.OpenSimulated(here).Report(ctx, evidence.ReportData(evidence.SourceHost, nonce, []byte(data)))
	if err != nil {
		return nil, [48]byte{}, err
	}
	certs, err := g.Certificates()
	if err != nil {
		return nil, [48]byte{}, err
	}
	d := evidence.Document{Type: r.Type, Report: r.Report, Certificates: certs,
		Source: evidence.SourceHost, Nonce: nonce, RuntimeData: []byte(data), Policy: text}
	if bare {
		d.Policy = nil
	}
	if noCerts {
		d.Certificates = nil
	}
	b, err := d.Marshal()
	return b, g.Measurement(), err
}
