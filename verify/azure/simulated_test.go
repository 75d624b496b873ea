// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// world is a machine without hardware, on which a paravisor can be anything.
type world struct {
	p    *simsp.Processor
	root anchor.Root
	key  *rsa.PrivateKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("makes RSA-4096 keys")
	}
	p, err := simsp.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ark, _ := p.Chain()
	root, err := anchor.NewRoot(anchor.Simulated, "local", ark)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &world{p, root, key}
}

func claimsOf(key *rsa.PublicKey, secureBoot bool) []byte {
	return fmt.Appendf(nil, `{"keys":[{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"%s"}],`+
		`"vm-configuration":{"console-enabled":false,"secure-boot":%t,"tpm-enabled":true,"vmUniqueId":"0"},"user-data":"%s"}`,
		base64.RawURLEncoding.EncodeToString(key.N.Bytes()), secureBoot, strings.Repeat("00", 64))
}

// guest is what differs from an honest guest.
type guest struct {
	hostData     [32]byte
	insecureBoot bool
	// claimed and signer are the key in the claims, and the one that signs quotes.
	claimed, signer *rsa.PrivateKey
	pcrs            [hcl.PCRCount][32]byte
	selection       []byte
	event           tpm2.TPMST
}

// evidence launches a guest, and has its TPM, which another library encodes, make a quote.
func (w *world) evidence(t *testing.T, g guest) (b []byte, measurement [48]byte) {
	t.Helper()
	dir := t.TempDir()
	l := simsp.Launch{
		KernelPath: filepath.Join(dir, "kernel"), InitrdPath: filepath.Join(dir, "initrd"), VCPUs: 1, HostData: g.hostData,
		Policy: snp.DefaultGuestPolicy,
	}
	for _, path := range []string{l.KernelPath, l.InitrdPath} {
		if err := os.WriteFile(path, []byte("paravisor"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	running, err := w.p.Launch(l)
	if err != nil {
		t.Fatal(err)
	}
	host, port := net.Pipe()
	go func() { _ = running.Serve(t.Context(), host) }()
	t.Cleanup(func() { _ = port.Close() })
	claims := claimsOf(&g.claimed.PublicKey, !g.insecureBoot)
	var data [64]byte
	sum := sha256.Sum256(claims)
	copy(data[:], sum[:])
	r, err := attest.OpenSimulated(port).Report(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := running.Certificates()
	if err != nil {
		t.Fatal(err)
	}
	report := &hcl.Report{Version: 1, Kind: hcl.KindSNP, Hardware: r.Report, Claims: claims}
	e := &hcl.Evidence{Report: report.Marshal(), VCEK: certs[0], Quote: g.quote(t)}
	return marshal(t, e), running.Measurement()
}

func (g *guest) quote(t *testing.T) hcl.Quote {
	t.Helper()
	h := sha256.New()
	for _, p := range g.pcrs {
		_, _ = h.Write(p[:]) // a hash never fails
	}
	attested := tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
		PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: g.selection}}},
		PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
	})
	if g.event == tpm2.TPMSTAttestTime {
		attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestTime, &tpm2.TPMSTimeAttestInfo{})
	}
	message := tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: g.event, ExtraData: tpm2.TPM2BData{Buffer: []byte("sixteen bytes 16")}, Attested: attested,
	})
	sum := sha256.Sum256(message)
	sig, err := rsa.SignPKCS1v15(rand.Reader, g.signer, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return hcl.Quote{Message: message, Signature: sig, PCRs: g.pcrs}
}

// TestSimulated has one thing wrong at a time that real evidence can not be made to have.
func TestSimulated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	another, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*guest)
		in     func(*Input, *Policy)
		want   []check.Code
	}{
		"honest":               {},
		"allowed without boot": {func(g *guest) { g.insecureBoot = true }, func(_ *Input, p *Policy) { p.AllowInsecureBoot = true }, nil},
		"insecure boot":        {func(g *guest) { g.insecureBoot = true }, nil, []check.Code{check.CodeSecureBoot}},
		"no paravisor":         {func(g *guest) { g.hostData[31] = 1 }, nil, []check.Code{check.CodeHostData}},
		"another key":          {func(g *guest) { g.signer = another }, nil, []check.Code{check.CodeTPMSignature}},
		"bound to another key": {func(g *guest) { g.claimed = another }, nil, []check.Code{check.CodeTPMSignature}},
		"no quote":             {func(g *guest) { g.event = tpm2.TPMSTAttestTime }, nil, []check.Code{check.CodeTPMQuoteMalformed}},
		"some registers":       {func(g *guest) { g.selection = []byte{0xff, 0xff, 0x7f} }, nil, []check.Code{check.CodePCRSelection}},
		"more registers":       {func(g *guest) { g.selection = []byte{0xff, 0xff, 0xff, 1} }, nil, []check.Code{check.CodePCRSelection}},
		"another register":     {func(g *guest) { g.pcrs[7][0]++ }, nil, []check.Code{check.CodePCR}},
		"hardware wanted": {
			nil, func(in *Input, _ *Policy) { in.AllowSimulated = false }, []check.Code{check.CodeTrustAnchorUnknown},
		},
	} {
		g := guest{claimed: w.key, signer: w.key, selection: []byte{0xff, 0xff, 0xff}, event: tpm2.TPMSTAttestQuote}
		g.pcrs[7] = [32]byte{7}
		p := Policy{PCRs: map[int][][32]byte{7: {g.pcrs[7]}}}
		if c.change != nil {
			c.change(&g)
		}
		b, m := w.evidence(t, g)
		p.Measurements = [][]byte{m[:]}
		in := Input{
			Evidence: b, Now: time.Now(), Roots: append(anchor.AMDRoots(), w.root), AllowSimulated: true,
			SNP: amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
		}
		_, ask := w.p.Chain()
		in.Certificates = [][]byte{ask.Raw}
		if c.in != nil {
			c.in(&in, &p)
		}
		res, o := judge(t, in, p)
		if diff := cmp.Diff(c.want, o.failed); diff != "" || len(o.missing) != 0 && c.want == nil {
			t.Errorf("%s: %+v\n%s", name, o, diff)
		}
		if res.SNP == nil || !res.SNP.Simulated {
			t.Errorf("%s: not marked as simulated", name)
		}
		if res.Quote != nil && string(res.ExtraData) != "sixteen bytes 16" {
			t.Errorf("%s: extra data are %q", name, res.ExtraData)
		}
	}
}
