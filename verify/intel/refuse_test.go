// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// deviation is one thing that is not in order, and what is to be said of it: all of it, and nothing else.
type deviation struct {
	name   string
	tee    dcap.TEEType
	change func(*world)  // before everything is signed
	tamper func(*Input)  // after
	policy func(*Policy) // what is asked for
	want   string        // the outcome, and each check with its code
}

func run(t *testing.T, cases []deviation) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, p := newWorld(t, c.tee), strict()
			if c.change != nil {
				c.change(w)
			}
			in := w.input()
			if c.tamper != nil {
				c.tamper(&in)
			}
			if c.policy != nil {
				c.policy(&p)
			}
			_, outcome, codes := judge(t, in, p)
			if d := cmp.Diff(strings.Fields(c.want), append([]string{outcome}, codes...)); d != "" {
				t.Errorf("differs (-want +got):\n%s", d)
			}
		})
	}
}

const td, sg = dcap.TEETDX, dcap.TEESGX

// withoutChain are the checks that nobody makes without a root that vouches for the machine.
const withoutChain = " pck-crl=COLLATERAL_MISSING platform-model=COLLATERAL_MISSING qe-identity=COLLATERAL_MISSING" +
	" quoting-enclave=COLLATERAL_MISSING revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING tcb-evaluation=COLLATERAL_MISSING" +
	" tcb-info=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"

func TestChain(t *testing.T) {
	t.Parallel()
	run(t, []deviation{
		{name: "root of another", tee: sg, tamper: func(in *Input) { in.Roots = []anchor.Root{anchor.IntelRoot()} },
			want: "refused" + strings.Replace(withoutChain, " tcb-status=COLLATERAL_MISSING", " tcb-status=COLLATERAL_MISSING trust-anchor=TRUST_ANCHOR_UNKNOWN", 1)},
		{name: "machine certificate of another authority", tee: sg, change: func(w *world) {
			other := w.issue(w.root, platformName, true, nil)
			w.quote.CertificationData = chainPEM(w.pck.cert, other.cert, w.root.cert)
		}, want: "refused chain=CHAIN_SIGNATURE_INVALID" + withoutChain},
		{name: "authority signs itself into the chain", tee: sg, change: func(w *world) {
			fake := w.issue(party{}, platformName, true, nil)
			w.quote.CertificationData = chainPEM(w.pck.cert, fake.cert, w.root.cert)
		}, want: "refused" + withoutChain + " trust-anchor=TRUST_ANCHOR_UNKNOWN"},
		{name: "fourth certificate", tee: sg, change: func(w *world) {
			w.quote.CertificationData = chainPEM(w.pck.cert, w.ca.cert, w.root.cert, w.signing.cert)
		}, want: "refused chain=CERTIFICATE_UNUSED"},
		{name: "certificate beside the quote", tee: sg, tamper: func(in *Input) { in.Certificates = [][]byte{{1}} },
			want: "refused chain=CERTIFICATE_UNUSED"},
		{name: "chain from the root on", tee: sg, change: func(w *world) {
			w.quote.CertificationData = chainPEM(w.root.cert, w.ca.cert, w.pck.cert)
		}, want: "refused chain=CHAIN_SIGNATURE_INVALID chip-certificate=CERTIFICATE_MALFORMED pck-crl=COLLATERAL_MISSING" +
			" qe-identity=COLLATERAL_MISSING qe-report=QE_REPORT_SIGNATURE_INVALID" +
			" quoting-enclave=COLLATERAL_MISSING revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING" +
			" tcb-evaluation=COLLATERAL_MISSING tcb-info=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"},
		{name: "chain without the root", tee: sg, change: func(w *world) { w.quote.CertificationData = chainPEM(w.pck.cert, w.ca.cert) },
			want: "accepted"},
		{name: "chain without the authority", tee: sg, change: func(w *world) { w.quote.CertificationData = chainPEM(w.pck.cert) },
			want: "undecided chip-certificate=CERTIFICATE_MISSING pck-crl=COLLATERAL_MISSING qe-identity=COLLATERAL_MISSING" +
				" qe-report=SIGNATURE_NOT_CHECKED quoting-enclave=COLLATERAL_MISSING revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING" +
				" tcb-evaluation=COLLATERAL_MISSING tcb-info=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"},
		{name: "space in the chain", tee: sg, change: func(w *world) {
			w.quote.CertificationData = append(chainPEM(w.pck.cert, w.ca.cert), append([]byte("\n"), chainPEM(w.root.cert)...)...)
		}, want: "refused certification-data=CERTIFICATE_MALFORMED pck-crl=COLLATERAL_MISSING qe-identity=COLLATERAL_MISSING" +
			" qe-report=SIGNATURE_NOT_CHECKED quoting-enclave=COLLATERAL_MISSING revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING" +
			" tcb-evaluation=COLLATERAL_MISSING tcb-info=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"},
		{name: "zero byte behind the chain", tee: sg, change: func(w *world) {
			w.quote.CertificationData = append(chainPEM(w.pck.cert, w.ca.cert, w.root.cert), 0)
		}, want: "accepted"},
		{name: "chain wrapped at another column", tee: sg, change: func(w *world) {
			unwrapped := strings.ReplaceAll(string(chainPEM(w.pck.cert)), "\n", "")
			begin, end := "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
			body := strings.TrimSuffix(strings.TrimPrefix(unwrapped, begin), end)
			wrapped := begin + "\n" + body[:76] + "\r\n" + body[76:] + "\n" + end + "\n"
			w.quote.CertificationData = append([]byte(wrapped), chainPEM(w.ca.cert, w.root.cert)...)
		}, want: "accepted"},
		{name: "machine certificate that is an authority", tee: sg, change: func(w *world) {
			w.renewPCK(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign })
		}, want: "refused certificate-profile=CHAIN_PROFILE_INVALID"},
		{name: "machine certificate of another name", tee: sg, change: func(w *world) {
			w.renewPCK(func(c *x509.Certificate) { c.Subject.CommonName = tcbSigningName })
		}, want: "refused certificate-profile=CHAIN_PROFILE_INVALID"},
		{name: "authority of another name", tee: sg, change: func(w *world) {
			w.ca = w.issue(w.root, "Intel SGX PCK Other CA", true, nil)
			w.pckListBy = w.ca
			w.renewPCK()
		}, want: "refused certificate-profile=CHAIN_PROFILE_INVALID pck-crl=COLLATERAL_MISSING revocation=COLLATERAL_MISSING"},
		{name: "critical extension that is unknown", tee: sg, change: func(w *world) {
			w.renewPCK(func(c *x509.Certificate) {
				c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
			})
		}, want: "refused certificate-profile=CHAIN_PROFILE_INVALID"},
		{name: "signing key as machine key", tee: sg, change: func(w *world) {
			w.quote.CertificationData = chainPEM(w.signing.cert, w.ca.cert, w.root.cert)
			w.pck.key = w.signing.key
		}, want: "refused chain=CHAIN_SIGNATURE_INVALID chip-certificate=CERTIFICATE_MALFORMED" + strings.Replace(withoutChain, " platform-model=COLLATERAL_MISSING", "", 1)},
		{name: "machine certificate expired", tee: sg, change: func(w *world) {
			w.renewPCK(func(c *x509.Certificate) { c.NotAfter = w.now.Add(-time.Second) })
		}, want: "undecided certificate-validity=CERTIFICATE_EXPIRED"},
		{name: "machine certificate not yet valid", tee: sg, change: func(w *world) {
			w.renewPCK(func(c *x509.Certificate) { c.NotBefore = w.now.Add(time.Second) })
		}, want: "undecided certificate-validity=CERTIFICATE_NOT_YET_VALID"},
		{name: "certification data of type 1", tee: sg, change: func(w *world) {
			w.quote.CertificationType, w.quote.CertificationData = dcap.CertificationPPID, make([]byte, 36)
		}, want: "refused certification-data=CERTIFICATION_UNSUPPORTED pck-crl=COLLATERAL_MISSING qe-identity=COLLATERAL_MISSING" +
			" qe-report=SIGNATURE_NOT_CHECKED quoting-enclave=COLLATERAL_MISSING revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING" +
			" tcb-evaluation=COLLATERAL_MISSING tcb-info=COLLATERAL_MISSING tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"},
	})
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	flip := func(at int) func(*Input) {
		return func(in *Input) { in.Quote = bytes.Clone(in.Quote); in.Quote[at] ^= 1 }
	}
	const v3Signature = 48 + 384 + 4 // header, body, size
	run(t, []deviation{
		{name: "report data changed", tee: sg, tamper: flip(48 + 383), want: "refused signature=SIGNATURE_INVALID"},
		{name: "quote's signature changed", tee: sg, tamper: flip(v3Signature), want: "refused signature=SIGNATURE_INVALID"},
		{name: "QE report's signature changed", tee: sg, tamper: flip(v3Signature + 128 + 384), want: "refused qe-report=QE_REPORT_SIGNATURE_INVALID"},
		{name: "authentication data changed", tee: sg, tamper: flip(v3Signature + 128 + 384 + 64 + 2), want: "refused attestation-key=ATTESTATION_KEY_NOT_BOUND"},
		{name: "zeros follow", tee: sg, tamper: func(in *Input) { in.Quote = append(in.Quote, make([]byte, 70)...) }, want: "accepted"},
		{name: "text follows", tee: sg, tamper: func(in *Input) { in.Quote = append(in.Quote, "text"...) }, want: "refused format=TRAILING_DATA"},
		{name: "text follows and may", tee: sg, tamper: func(in *Input) { in.Quote = append(in.Quote, "text"...) },
			policy: func(p *Policy) { p.AllowTrailingData = true }, want: "accepted"},
		{name: "quote cut off", tee: sg, tamper: func(in *Input) { in.Quote = in.Quote[:100] }, want: "refused format=REPORT_MALFORMED"},
		{name: "no quote", tee: sg, tamper: func(in *Input) { in.Quote = nil }, want: "refused format=REPORT_MALFORMED"},
	})
}

// TestForgedKey makes a quote with an attestation key that the quoting enclave does not vouch for.
func TestForgedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sg)
	w.signQuote()
	w.ak = newKey(t)
	point, err := w.ak.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	in := w.input()
	copy(w.quote.AttestationKey[:], point[1:])
	w.quote.QEReport.ReportData = [64]byte{1}
	w.quote.QEReportSignature = sign(t, w.pck.key, w.quote.QEReport.Marshal())
	if in.Quote, err = w.quote.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, outcome, codes := judge(t, in, strict()); outcome != "refused" || len(codes) != 1 || codes[0] != "attestation-key=ATTESTATION_KEY_NOT_BOUND" {
		t.Errorf("%s: %v", outcome, codes)
	}
	w.quote.AttestationKey = [64]byte{1} // a point that is on no curve
	if in.Quote, err = w.quote.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, outcome, codes := judge(t, in, strict()); outcome != "refused" || len(codes) != 2 {
		t.Errorf("%s: %v", outcome, codes)
	}
}

func TestGuests(t *testing.T) {
	t.Parallel()
	body := func(f func(*tdx.Body)) func(*world) { return func(w *world) { f(w.quote.TD) } }
	enclave := func(f func(*sgx.ReportBody)) func(*world) { return func(w *world) { f(w.quote.Enclave) } }
	rules := func(f func(*TDX)) func(*Policy) { return func(p *Policy) { f(p.TDX) } }
	sgxRules := func(f func(*SGX)) func(*Policy) { return func(p *Policy) { f(p.SGX) } }
	run(t, []deviation{
		{name: "no rules for domains", tee: td, policy: func(p *Policy) { p.TDX = nil },
			want: "refused runtime-registers=RTMR_NOT_PINNED td-attributes=TD_ATTRIBUTES_NOT_ALLOWED tee=TEE_NOT_ALLOWED xfam=XFAM_NOT_ALLOWED"},
		{name: "no rules for enclaves", tee: sg, policy: func(p *Policy) { p.SGX = nil },
			want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED tee=TEE_NOT_ALLOWED"},
		{name: "debug domain", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributeDebug }), want: "refused debug=DEBUG_ALLOWED"},
		{name: "profiled domain", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributePerformanceProfiling }),
			want: "refused debug=DEBUG_ALLOWED"},
		{name: "debug domain that may", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributeDebug }),
			policy: rules(func(r *TDX) { r.AllowDebug = true }), want: "accepted"},
		{name: "reserved debug bit of one that may", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= 1 << 7 }),
			policy: rules(func(r *TDX) { r.AllowDebug = true }), want: "refused td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
		{name: "exceptions for lost memory", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes &^= tdx.AttributeSEPTVEDisable }),
			want: "refused td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
		{name: "exceptions that may", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes &^= tdx.AttributeSEPTVEDisable }),
			policy: rules(func(r *TDX) { r.RequiredAttributes = 0 }), want: "accepted"},
		{name: "reserved attribute", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= 1 << 40 }),
			policy: rules(func(r *TDX) { r.AllowedAttributes = ^tdx.Attributes(0) }), want: "refused td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
		{name: "performance counters", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributePERFMON }),
			want: "refused td-attributes=TD_ATTRIBUTES_NOT_ALLOWED"},
		{name: "migratable", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributeMigratable }), want: "refused migration=MIGRATION_ALLOWED"},
		{name: "migratable and may", tee: td, change: body(func(b *tdx.Body) { b.TDAttributes |= tdx.AttributeMigratable }),
			policy: rules(func(r *TDX) { r.AllowMigration = true }), want: "accepted"},
		{name: "tracing", tee: td, change: body(func(b *tdx.Body) { b.XFAM |= 1 << 8 }), want: "refused xfam=XFAM_NOT_ALLOWED"},
		{name: "feature without a name", tee: td, change: body(func(b *tdx.Body) { b.XFAM |= 1 << 40 }),
			policy: rules(func(r *TDX) { r.AllowedXFAM = ^tdx.XFAM(0) }), want: "refused xfam=XFAM_NOT_ALLOWED"},
		{name: "without SSE", tee: td, change: body(func(b *tdx.Body) { b.XFAM = 1 }), want: "refused xfam=XFAM_NOT_ALLOWED"},
		{name: "host data", tee: td, change: body(func(b *tdx.Body) { b.MRConfigID[0] = 1 }), want: "refused td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
		{name: "owner", tee: td, change: body(func(b *tdx.Body) { b.MROwner[0] = 1 }), want: "refused td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
		{name: "owner's configuration", tee: td, change: body(func(b *tdx.Body) { b.MROwnerConfig[0] = 1 }), want: "refused td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
		{name: "pinned host data", tee: td, change: body(func(b *tdx.Body) { b.MRConfigID[0] = 1 }),
			policy: rules(func(r *TDX) { r.ConfigID.Values = [][]byte{append([]byte{1}, make([]byte, 47)...)} }), want: "accepted"},
		{name: "zero where another is pinned", tee: td,
			policy: rules(func(r *TDX) { r.ConfigID.Values = [][]byte{append([]byte{1}, make([]byte, 47)...)} }),
			want:   "refused td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
		{name: "pin that is cut off", tee: td, change: body(func(b *tdx.Body) { b.MRConfigID[0] = 1 }),
			policy: rules(func(r *TDX) { r.ConfigID.Values = [][]byte{{1}} }), want: "refused td-configuration=TD_CONFIGURATION_NOT_TRUSTED"},
		{name: "service domain", tee: td, change: body(func(b *tdx.Body) { b.V15.MRServiceTD[0] = 1 }), want: "refused service-td=SERVICE_TD_NOT_TRUSTED"},
		{name: "another kernel", tee: td, change: body(func(b *tdx.Body) { b.RTMR[1][5] = 1 }), want: "refused runtime-registers=RTMR_NOT_TRUSTED"},
		{name: "register forgotten", tee: td, policy: rules(func(r *TDX) { r.RTMR[2] = Pins{} }), want: "refused runtime-registers=RTMR_NOT_PINNED"},
		{name: "last register forgotten", tee: td, policy: rules(func(r *TDX) { r.RTMR[3] = Pins{} }), want: "refused runtime-registers=RTMR_NOT_PINNED"},
		{name: "last register opened", tee: td, policy: rules(func(r *TDX) { r.RTMR[3] = Pins{Any: true} }), want: "accepted"},
		{name: "last register alone", tee: td, policy: rules(func(r *TDX) { r.RTMR[0], r.RTMR[1], r.RTMR[2] = Pins{Any: true}, Pins{Any: true}, Pins{Any: true} }),
			want: "refused runtime-registers=RTMR_NOT_PINNED"},
		{name: "module", tee: td, policy: rules(func(r *TDX) { r.Modules = [][]byte{make([]byte, 48)} }), want: "accepted"},
		{name: "another module", tee: td, policy: rules(func(r *TDX) { r.Modules = [][]byte{bytes.Repeat([]byte{1}, 48)} }),
			want: "refused tcb-level=TCB_LEVEL_NOT_FOUND tcb-status=COLLATERAL_MISSING tdx-module=TDX_MODULE_NOT_ALLOWED"},
		{name: "no log", tee: td, policy: rules(func(r *TDX) { r.RequireEventLog = true }), want: "undecided event-log=EVENT_LOG_MISSING"},
		{name: "broken log", tee: td, tamper: func(in *Input) { in.EventLog = []byte("log") }, want: "refused event-log=EVENT_LOG_MALFORMED"},

		{name: "debug enclave", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.Flags |= sgx.FlagDebug }), want: "refused debug=DEBUG_ALLOWED"},
		{name: "debug enclave that may", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.Flags |= sgx.FlagDebug }),
			policy: sgxRules(func(r *SGX) { r.AllowDebug = true }), want: "accepted"},
		{name: "provisioning key", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.Flags |= sgx.FlagProvisionKey }),
			want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED"},
		{name: "not initialised", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.Flags &^= sgx.FlagInit }),
			want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED"},
		{name: "unknown flag", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.Flags |= 1 << 40 }),
			policy: sgxRules(func(r *SGX) { r.AllowedFlags = ^sgx.Flags(0) }), want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED"},
		{name: "unknown save area", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.MiscSelect = 1 << 9 }), want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED"},
		{name: "unknown feature", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.Attributes.XFRM |= 1 << 40 }), want: "refused enclave-attributes=ENCLAVE_ATTRIBUTES_NOT_ALLOWED"},
		{name: "another signer", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.MRSigner[1] = 1 }), want: "refused enclave-signer=ENCLAVE_SIGNER_NOT_TRUSTED"},
		{name: "another product", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.ISVProdID = 8 }), want: "refused enclave-signer=ENCLAVE_SIGNER_NOT_TRUSTED"},
		{name: "older version", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.ISVSVN = 2 }), want: "refused enclave-signer=ENCLAVE_SIGNER_NOT_TRUSTED"},
		{name: "newer version", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.ISVSVN = 4 }), want: "accepted"},
		{name: "configuration", tee: sg, change: enclave(func(b *sgx.ReportBody) { b.ConfigID[0] = 1 }), want: "refused enclave-configuration=ENCLAVE_CONFIGURATION_NOT_TRUSTED"},
		{name: "configuration's version", tee: sg, policy: sgxRules(func(r *SGX) { r.MinimumConfigSVN = 1 }),
			want: "refused enclave-configuration=ENCLAVE_CONFIGURATION_NOT_TRUSTED"},
	})
}

func TestCollateral(t *testing.T) {
	t.Parallel()
	info, identity := collateral.TCBInfo(collateral.SGX, [6]byte{0xab, 0xcd, 0xef}).Name(), collateral.QEIdentity(collateral.SGX).Name()
	root, pck := collateral.RootCRL().Name(), collateral.PCKCRL(collateral.PlatformCA).Name()
	change := func(name string, f func(*collateral.Item)) func(*Input) {
		return func(in *Input) {
			e := in.Collateral.(collateral.Embedded)
			item := e[name]
			item.Body, item.IssuerChain = bytes.Clone(item.Body), bytes.Clone(item.IssuerChain)
			f(&item)
			e[name] = item
		}
	}
	drop := func(names ...string) func(*Input) {
		return func(in *Input) {
			for _, n := range names {
				delete(in.Collateral.(collateral.Embedded), n)
			}
		}
	}
	otherSigner := func(name string, change ...func(*x509.Certificate)) func(*world) {
		return func(w *world) { w.infoSigner = w.issue(w.root, name, false, nil, change...) }
	}
	const noInfo = " platform-model=COLLATERAL_MISSING tcb-evaluation=COLLATERAL_MISSING"
	const noStatus = " tcb-level=COLLATERAL_MISSING tcb-status=COLLATERAL_MISSING"
	const noQE = " quoting-enclave=COLLATERAL_MISSING tcb-evaluation=COLLATERAL_MISSING" + noStatus
	refusedInfo := func(code string) string { return "refused" + noInfo + " tcb-info=" + code + noStatus }
	run(t, []deviation{
		{name: "no source", tee: sg, tamper: func(in *Input) { in.Collateral = nil }, want: "undecided" + withoutChain},
		{name: "no TCB info", tee: sg, tamper: drop(info), want: "undecided" + noInfo + " tcb-info=COLLATERAL_MISSING" + noStatus},
		{name: "no QE identity", tee: sg, tamper: drop(identity), want: "undecided qe-identity=COLLATERAL_MISSING" + noQE},
		{name: "no root list", tee: sg, tamper: drop(root), want: "undecided revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MISSING"},
		{name: "no machine list", tee: sg, tamper: drop(pck), want: "undecided pck-crl=COLLATERAL_MISSING revocation=COLLATERAL_MISSING"},
		{name: "machine revoked", tee: sg, change: func(w *world) { w.pckRevoked = []*big.Int{big.NewInt(5), w.pck.cert.SerialNumber} },
			want: "refused revocation=CERTIFICATE_REVOKED"},
		{name: "another machine revoked", tee: sg, change: func(w *world) { w.pckRevoked = []*big.Int{big.NewInt(5)} }, want: "accepted"},
		{name: "authority revoked", tee: sg, change: func(w *world) { w.rootRevoked = []*big.Int{w.ca.cert.SerialNumber} },
			want: "refused revocation=CERTIFICATE_REVOKED"},
		{name: "signer revoked", tee: sg, change: func(w *world) { w.rootRevoked = []*big.Int{w.signing.cert.SerialNumber} },
			want: "refused revocation=CERTIFICATE_REVOKED"},
		{name: "revoked by a list out of date", tee: sg, change: func(w *world) {
			w.pckRevoked, w.listUntil = []*big.Int{w.pck.cert.SerialNumber}, w.now.Add(-time.Second)
		}, want: "refused pck-crl=COLLATERAL_EXPIRED revocation=CERTIFICATE_REVOKED root-crl=COLLATERAL_EXPIRED"},
		{name: "lists out of date", tee: sg, change: func(w *world) { w.listUntil = w.now.Add(-time.Second) },
			want: "undecided pck-crl=COLLATERAL_EXPIRED root-crl=COLLATERAL_EXPIRED"},
		{name: "lists of tomorrow", tee: sg, change: func(w *world) { w.listFrom = w.now.AddDate(0, 0, 1) },
			want: "undecided pck-crl=COLLATERAL_NOT_YET_VALID root-crl=COLLATERAL_NOT_YET_VALID"},
		{name: "lists of a part", tee: sg, change: func(w *world) {
			w.listExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{48, 0}}}
		}, want: "refused pck-crl=COLLATERAL_MALFORMED revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MALFORMED"},
		{name: "root list by the authority", tee: sg, change: func(w *world) { w.rootListBy = w.ca },
			want: "refused revocation=COLLATERAL_MISSING root-crl=COLLATERAL_SIGNATURE_INVALID"},
		{name: "machine list by another authority", tee: sg, change: func(w *world) { w.pckListBy = w.issue(w.root, platformName, true, nil) },
			want: "refused pck-crl=COLLATERAL_SIGNATURE_INVALID revocation=COLLATERAL_MISSING"},
		{name: "machine list under another name", tee: sg, change: func(w *world) {
			other := w.issue(w.root, processorName, true, nil)
			w.pckListBy = party{cert: other.cert, key: w.ca.key}
		}, want: "refused pck-crl=COLLATERAL_SIGNATURE_INVALID revocation=COLLATERAL_MISSING"},
		{name: "machine list by an authority that signs none", tee: sg, change: func(w *world) {
			w.ca = w.issue(w.root, platformName, true, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
			w.renewPCK()
			may := *w.ca.cert
			may.KeyUsage |= x509.KeyUsageCRLSign
			w.pckListBy = party{cert: &may, key: w.ca.key}
		}, want: "refused pck-crl=COLLATERAL_SIGNER_INVALID revocation=COLLATERAL_MISSING"},
		{name: "lists exchanged", tee: sg, change: func(w *world) { w.rootListBy, w.pckListBy = w.ca, w.root },
			want: "refused pck-crl=COLLATERAL_SIGNATURE_INVALID revocation=COLLATERAL_MISSING root-crl=COLLATERAL_SIGNATURE_INVALID"},
		{name: "machine list changed", tee: sg, tamper: change(pck, func(i *collateral.Item) { i.Body[len(i.Body)-1] ^= 1 }),
			want: "refused pck-crl=COLLATERAL_SIGNATURE_INVALID revocation=COLLATERAL_MISSING"},
		{name: "machine list followed by a byte", tee: sg, tamper: change(pck, func(i *collateral.Item) { i.Body = append(i.Body, 0) }),
			want: "refused pck-crl=COLLATERAL_MALFORMED revocation=COLLATERAL_MISSING"},
		{name: "no list at all", tee: sg, tamper: change(root, func(i *collateral.Item) { i.Body = []byte("list") }),
			want: "refused revocation=COLLATERAL_MISSING root-crl=COLLATERAL_MALFORMED"},

		{name: "TCB info changed", tee: sg, tamper: change(info, func(i *collateral.Item) { i.Body = bytes.Replace(i.Body, []byte("18"), []byte("19"), 1) }),
			want: refusedInfo("COLLATERAL_SIGNATURE_INVALID")},
		{name: "TCB info cut off", tee: sg, tamper: change(info, func(i *collateral.Item) { i.Body = i.Body[:50] }), want: refusedInfo("COLLATERAL_MALFORMED")},
		{name: "TCB info without chain", tee: sg, tamper: change(info, func(i *collateral.Item) { i.IssuerChain = nil }),
			want: "undecided" + noInfo + " tcb-info=COLLATERAL_MISSING" + noStatus},
		{name: "TCB info with a chain of text", tee: sg, tamper: change(info, func(i *collateral.Item) { i.IssuerChain = []byte("chain") }),
			want: refusedInfo("COLLATERAL_SIGNER_INVALID")},
		{name: "TCB info by a machine", tee: sg, change: func(w *world) {
			w.infoSigner, w.infoChain = w.pck, []*x509.Certificate{w.pck.cert, w.ca.cert, w.root.cert}
			w.qeSigner = w.pck
		}, want: "refused platform-model=COLLATERAL_MISSING qe-identity=COLLATERAL_SIGNER_INVALID quoting-enclave=COLLATERAL_MISSING" +
			" tcb-evaluation=COLLATERAL_MISSING tcb-info=COLLATERAL_SIGNER_INVALID" + noStatus},
		{name: "TCB info by the authority", tee: sg, change: func(w *world) { w.infoSigner = w.ca }, want: refusedInfo("COLLATERAL_SIGNER_INVALID")},
		{name: "TCB info by a key of another name", tee: sg, change: otherSigner("Intel SGX TCB Signing 2"), want: refusedInfo("COLLATERAL_SIGNER_INVALID")},
		{name: "TCB info by a key under the authority", tee: sg, change: func(w *world) {
			w.infoSigner = w.issue(w.ca, tcbSigningName, false, nil)
		}, want: refusedInfo("COLLATERAL_SIGNER_INVALID")},
		{name: "TCB info by a key that signs no data", tee: sg, change: otherSigner(tcbSigningName, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
			want: refusedInfo("COLLATERAL_SIGNER_INVALID")},
		{name: "TCB info by an expired key", tee: sg, change: func(w *world) {
			w.infoSigner = w.issue(w.root, tcbSigningName, false, nil, func(c *x509.Certificate) { c.NotAfter = w.now.Add(-time.Second) })
		}, want: "undecided tcb-info=COLLATERAL_EXPIRED"},
		{name: "TCB info out of date", tee: sg, change: func(w *world) { w.info["nextUpdate"] = w.now.Add(-time.Second).Format(time.RFC3339) },
			want: "undecided tcb-info=COLLATERAL_EXPIRED"},
		{name: "TCB info followed by what nobody signed", tee: sg, tamper: change(info, func(i *collateral.Item) {
			i.Body = bytes.Replace(i.Body, []byte(`,"signature"`), []byte(`,"tcbInfo2":{},"signature"`), 1)
		}), want: refusedInfo("COLLATERAL_MALFORMED")},
		{name: "TCB info twice", tee: sg, tamper: change(info, func(i *collateral.Item) {
			i.Body = bytes.Replace(i.Body, []byte(`,"signature"`), []byte(`,"tcbInfo":{},"signature"`), 1)
		}), want: refusedInfo("COLLATERAL_MALFORMED")},
		{name: "status in another case besides", tee: sg, change: func(w *world) {
			w.info["tcbLevels"].([]any)[0].(tree)["TcbStatus"] = "UpToDate"
			w.info["tcbLevels"].([]any)[0].(tree)["tcbStatus"] = "OutOfDate"
		}, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "TCB info of another model", tee: sg, change: func(w *world) { w.info["fmspc"] = "abcdee000000" },
			want: "refused platform-model=PLATFORM_MODEL_MISMATCH" + noStatus},
		{name: "TCB info in capitals", tee: sg, change: func(w *world) { w.info["fmspc"] = "ABCDEF000000" }, want: "accepted"},
		{name: "TCB info of another PCE", tee: sg, change: func(w *world) { w.info["pceId"] = "0100" },
			want: "refused platform-model=PLATFORM_MODEL_MISMATCH" + noStatus},
		{name: "QE identity of domains", tee: sg, change: func(w *world) { w.identity["id"] = "TD_QE" },
			want: "refused quoting-enclave=QUOTING_ENCLAVE_UNKNOWN" + noStatus},
		{name: "levels from the worst on", tee: sg, change: func(w *world) {
			slices.Reverse(w.info["tcbLevels"].([]any))
		}, want: "refused tcb-status=TCB_STATUS_NOT_ACCEPTED"},
		{name: "QE identity of tomorrow", tee: sg, change: func(w *world) { w.identity["issueDate"] = w.now.Add(time.Second).Format(time.RFC3339) },
			want: "undecided qe-identity=COLLATERAL_NOT_YET_VALID"},
		{name: "QE identity changed", tee: sg, tamper: change(identity, func(i *collateral.Item) { i.Body = bytes.Replace(i.Body, []byte("17"), []byte("18"), 1) }),
			want: "refused qe-identity=COLLATERAL_SIGNATURE_INVALID" + noQE},
		{name: "QE identity of the old form", tee: sg, change: func(w *world) {
			w.identityMember, w.identity["version"], w.identity["isvsvn"] = "qeIdentity", 1, 5
		}, want: "refused qe-identity=COLLATERAL_MALFORMED" + noQE},
		{name: "endless TCB info", tee: sg, tamper: change(info, func(i *collateral.Item) { i.Body = make([]byte, collateral.MaxBodySize+1) }),
			want: refusedInfo("COLLATERAL_MALFORMED")},
		{name: "endless chain", tee: sg, tamper: change(info, func(i *collateral.Item) { i.IssuerChain = make([]byte, collateral.MaxIssuerChainSize+1) }),
			want: refusedInfo("COLLATERAL_MALFORMED")},
		{name: "old", tee: sg, policy: func(p *Policy) { p.MaxCollateralAge = 71 * time.Hour }, want: "undecided collateral-age=COLLATERAL_TOO_OLD"},
		{name: "limit below zero", tee: sg, policy: func(p *Policy) { p.MaxCollateralAge = -1 }, want: "undecided collateral-age=COLLATERAL_TOO_OLD"},
		{name: "not too old", tee: sg, policy: func(p *Policy) { p.MaxCollateralAge = 72 * time.Hour }, want: "accepted"},
		{name: "evaluation number", tee: sg, policy: func(p *Policy) { p.MinimumEvaluationNumber = 18 }, want: "refused tcb-evaluation=TCB_EVALUATION_TOO_LOW"},
		{name: "evaluation number reached", tee: sg, policy: func(p *Policy) { p.MinimumEvaluationNumber = 17 }, want: "accepted"},
	})
}

// TestMandatoryAreNamed holds that every check that is recorded in order is mandatory: one that a change forgets to make can
// then not go unnoticed.
func TestMandatoryAreNamed(t *testing.T) {
	t.Parallel()
	for _, tee := range []dcap.TEEType{td, sg} {
		var rec check.Record
		Appraise(t.Context(), &rec, newWorld(t, tee).input(), strict())
		made := map[check.Name]bool{}
		for _, c := range rec.Checks() {
			made[c.Name] = true
		}
		want := map[check.Name]bool{}
		for _, n := range Mandatory(tee) {
			want[n] = true
		}
		if d := cmp.Diff(want, made); d != "" {
			t.Errorf("%s: mandatory and made checks differ (-mandatory +made):\n%s", tee, d)
		}
	}
}
