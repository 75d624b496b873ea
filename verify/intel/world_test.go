// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/sgx"
	"cofferdam.dev/evidence/tdx"
	"cofferdam.dev/verify/anchor"
)

// party is a certificate with its key.
type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// world is a machine, its owner and an Intel of the test's own, under a root of the simulated domain. A test changes what
// it is about and then lets everything be signed.
type world struct {
	t   testing.TB
	now time.Time

	root, ca, pck, signing party
	machine                dcap.PCK
	ak                     *ecdsa.PrivateKey
	quote                  *dcap.Quote

	info, identity        map[string]any
	identityMember        string
	infoSigner, qeSigner  party
	infoChain             []*x509.Certificate
	rootRevoked           []*big.Int
	pckRevoked            []*big.Int
	listFrom, listUntil   time.Time
	rootListBy, pckListBy party
	listExtensions        []pkix.Extension
}

// newWorld makes a machine on which everything is in order.
func newWorld(t testing.TB, tee dcap.TEEType) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)}
	no := false
	w.machine = dcap.PCK{
		PPID: [16]byte{1, 2, 3}, Components: [16]uint8{5, 5, 2, 2, 3, 1, 0, 5}, PCESVN: 13, CPUSVN: [16]byte{5, 5, 2, 2, 3, 1, 0, 5},
		FMSPC: [6]byte{0xab, 0xcd, 0xef}, Type: dcap.SGXScalable, Platform: &dcap.PCKPlatform{InstanceID: [16]byte{9}, Dynamic: &no, CachedKeys: &no, SMT: &no},
	}
	w.root = w.issue(party{}, rootName, true, nil, func(c *x509.Certificate) { c.CRLDistributionPoints = []string{oracleRootCRL} })
	w.ca = w.issue(w.root, platformName, true, nil)
	w.signing = w.issue(w.root, tcbSigningName, false, nil)
	w.renewPCK()
	w.infoSigner, w.qeSigner, w.rootListBy, w.pckListBy = w.signing, w.signing, w.root, w.ca
	w.listFrom, w.listUntil = w.now.AddDate(0, 0, -3), w.now.AddDate(0, 0, 27)
	w.identityMember, w.ak = "enclaveIdentity", newKey(t)
	w.documents(tee)
	w.quote = &dcap.Quote{
		Header:            dcap.Header{Version: dcap.Version4, AttestationKeyType: dcap.KeyECDSAP256, TEE: tee, QEVendorID: dcap.IntelQEVendorID},
		QEAuthData:        []byte("authentication data"),
		CertificationType: dcap.CertificationPCKChain,
		QEReport: &sgx.ReportBody{
			Attributes: sgx.Attributes{Flags: sgx.FlagInit | sgx.FlagMode64 | sgx.FlagProvisionKey, XFRM: 0xe7},
			MRSigner:   [32]byte{0xaa}, ISVProdID: 2, ISVSVN: 5,
		},
	}
	if tee == dcap.TEETDX {
		w.quote.Header.Version = dcap.Version5
		w.quote.TD = &tdx.Body{
			TEETCBSVN: [16]byte{4, 1, 3}, TDAttributes: tdx.AttributeSEPTVEDisable, XFAM: 0x602e7, MRTD: [48]byte{0xd1},
			RTMR: [4][48]byte{{0xe0}, {0xe1}, {0xe2}, {0xe3}}, ReportData: [64]byte{0xf0},
			V15: &tdx.Body15{TEETCBSVN2: [16]byte{4, 1, 3}},
		}
		return w
	}
	w.quote.Header.Version = dcap.Version3
	w.quote.Enclave = &sgx.ReportBody{
		Attributes: sgx.Attributes{Flags: sgx.FlagInit | sgx.FlagMode64, XFRM: 0xe7}, MREnclave: [32]byte{0xd2},
		MRSigner: [32]byte{0xbb}, ISVProdID: 7, ISVSVN: 3, ReportData: [64]byte{0xf0},
	}
	return w
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate, signed by itself when there is no issuer.
func (w *world) issue(issuer party, name string, ca bool, exts []pkix.Extension, change ...func(*x509.Certificate)) party {
	w.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name, Organization: []string{"Simulated"}},
		NotBefore: w.now.AddDate(-1, 0, 0), NotAfter: w.now.AddDate(5, 0, 0), IsCA: ca, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: exts,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	for _, f := range change {
		f(template)
	}
	p := party{key: newKey(w.t)}
	parent, signer := template, p.key
	if issuer.cert != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &p.key.PublicKey, signer)
	if err != nil {
		w.t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// renewPCK makes the machine's certificate of what the machine is now.
func (w *world) renewPCK(change ...func(*x509.Certificate)) {
	w.t.Helper()
	ext, err := w.machine.Extension()
	if err != nil {
		w.t.Fatal(err)
	}
	real := func(c *x509.Certificate) { // Intel's have exactly six extensions, which the oracle counts
		c.SubjectKeyId, c.CRLDistributionPoints = []byte{1}, []string{"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl"}
	}
	w.pck = w.issue(w.ca, pckName, false, []pkix.Extension{ext}, append(change, real)...)
}

type tree = map[string]any

func components(svn ...int) []any {
	list := make([]any, 16)
	for i := range list {
		list[i] = tree{"svn": 0}
		if i < len(svn) {
			list[i] = tree{"svn": svn[i]}
		}
	}
	return list
}

// documents makes a TCB info of two levels, with one TDX module, and a QE identity of two levels.
func (w *world) documents(tee dcap.TEEType) {
	issued, next := w.now.AddDate(0, 0, -2).Format(time.RFC3339), w.now.AddDate(0, 0, 28).Format(time.RFC3339)
	level := func(date, status string, tcb tree, advisories ...string) tree {
		return tree{"tcb": tcb, "tcbDate": date + "T00:00:00Z", "tcbStatus": status, "advisoryIDs": append([]string{}, advisories...)}
	}
	platform := func(svn, pcesvn, tdxSVN int) tree {
		tcb := tree{"sgxtcbcomponents": components(svn, svn, 2, 2, 3, 1, 0, 5), "pcesvn": pcesvn}
		if tee == dcap.TEETDX {
			tcb["tdxtcbcomponents"] = components(4, 0, tdxSVN)
		}
		return tcb
	}
	id, qe := "SGX", "QE"
	if tee == dcap.TEETDX {
		id, qe = "TDX", "TD_QE"
	}
	w.info = tree{
		"id": id, "version": 3, "issueDate": issued, "nextUpdate": next, "fmspc": hex.EncodeToString(w.machine.FMSPC[:]), "pceId": "0000",
		"tcbType": 0, "tcbEvaluationDataNumber": 18, "tcbLevels": []any{
			level("2026-01-01", "UpToDate", platform(5, 13, 3)),
			level("2025-01-01", "OutOfDate", platform(4, 11, 2), "INTEL-SA-00002", "INTEL-SA-00001"),
		},
	}
	if tee == dcap.TEETDX {
		zero := hex.EncodeToString(make([]byte, 48))
		module := func() tree {
			return tree{"mrsigner": zero, "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF"}
		}
		w.info["tdxModule"] = module()
		identity := module()
		identity["id"] = "TDX_01"
		identity["tcbLevels"] = []any{
			level("2026-01-01", "UpToDate", tree{"isvsvn": 4}), level("2025-02-01", "OutOfDate", tree{"isvsvn": 2}, "INTEL-SA-00003"),
		}
		w.info["tdxModuleIdentities"] = []any{identity}
	}
	w.identity = tree{
		"id": qe, "version": 2, "issueDate": issued, "nextUpdate": next, "tcbEvaluationDataNumber": 17, "miscselect": "00000000",
		"miscselectMask": "FFFFFFFF", "attributes": "15000000000000000000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF0000000000000000",
		"mrsigner": "aa" + hex.EncodeToString(make([]byte, 31)), "isvprodid": 2, "tcbLevels": []any{
			level("2026-01-01", "UpToDate", tree{"isvsvn": 5}), level("2025-03-01", "OutOfDate", tree{"isvsvn": 3}, "INTEL-SA-00004"),
		},
	}
}

func sign(t testing.TB, key *ecdsa.PrivateKey, message []byte) (sig [64]byte) {
	t.Helper()
	digest := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return sig
}

func chainPEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func (w *world) document(member string, body map[string]any, signer party) collateral.Item {
	w.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	chain := w.infoChain
	if chain == nil {
		chain = []*x509.Certificate{signer.cert, w.root.cert}
	}
	return collateral.Item{Body: fmt.Appendf(nil, `{%q:%s,"signature":"%x"}`, member, b, sign(w.t, signer.key, b)), IssuerChain: chainPEM(chain...)}
}

func (w *world) list(issuer party, serials []*big.Int) collateral.Item {
	w.t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(7), ThisUpdate: w.listFrom, NextUpdate: w.listUntil, ExtraExtensions: w.listExtensions}
	for _, s := range serials {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: w.listFrom})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, issuer.cert, issuer.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return collateral.Item{Body: der}
}

// signQuote makes the signatures of the quote: by the machine over the QE report, by the attestation key over the rest.
func (w *world) signQuote() []byte {
	w.t.Helper()
	q := w.quote
	point, err := w.ak.PublicKey.Bytes()
	if err != nil {
		w.t.Fatal(err)
	}
	copy(q.AttestationKey[:], point[1:])
	digest := sha256.Sum256(append(bytes.Clone(point[1:]), q.QEAuthData...))
	copy(q.QEReport.ReportData[:], digest[:])
	q.QEReportSignature = sign(w.t, w.pck.key, q.QEReport.Marshal())
	if q.CertificationType == dcap.CertificationPCKChain && q.CertificationData == nil {
		q.CertificationData = chainPEM(w.pck.cert, w.ca.cert, w.root.cert)
	}
	q.Signature = sign(w.t, w.ak, q.SignedBytes())
	b, err := q.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// input signs everything.
func (w *world) input() Input {
	w.t.Helper()
	tee := collateral.SGX
	if w.quote.TD != nil {
		tee = collateral.TDX
	}
	root, err := anchor.NewRoot(anchor.Simulated, "test", w.root.cert)
	if err != nil {
		w.t.Fatal(err)
	}
	return Input{
		TEE: w.quote.Header.TEE, Quote: w.signQuote(), Now: w.now, Roots: []anchor.Root{root}, AllowSimulated: true,
		Collateral: collateral.Embedded{
			collateral.TCBInfo(tee, w.machine.FMSPC).Name(): w.document("tcbInfo", w.info, w.infoSigner),
			collateral.QEIdentity(tee).Name():               w.document(w.identityMember, w.identity, w.qeSigner),
			collateral.PCKCRL(collateral.PlatformCA).Name(): w.list(w.pckListBy, w.pckRevoked),
			collateral.RootCRL().Name():                     w.list(w.rootListBy, w.rootRevoked),
		},
	}
}

// strict are rules that pin what a world's guests have.
func strict() Policy {
	td, enclave := DefaultTDX(), DefaultSGX()
	for i := range td.RTMR {
		td.RTMR[i].Values = [][]byte{append([]byte{byte(0xe0 + i)}, make([]byte, 47)...)}
	}
	enclave.Signers = []Signer{{MRSigner: [32]byte{0xbb}, ISVProdID: 7, MinimumISVSVN: 3}}
	return Policy{TDX: &td, SGX: &enclave}
}
