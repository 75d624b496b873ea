// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Kind says what a piece of collateral is.
type Kind string

// The kinds.
const (
	// AMDVCEK is the certificate of a chip's key under one TCB version.
	AMDVCEK Kind = "amd-vcek"
	// AMDChain is the intermediate certificate of a product line with its root.
	AMDChain Kind = "amd-chain"
	// AMDCRL is the list of intermediate certificates that a product line's root revoked.
	AMDCRL Kind = "amd-crl"
	// IntelTCBInfo is Intel's statement about the TCB levels of one platform family (FMSPC).
	IntelTCBInfo Kind = "intel-tcb-info"
	// IntelQEIdentity is Intel's statement about its quoting enclave.
	IntelQEIdentity Kind = "intel-qe-identity"
	// IntelPCKCRL is the list of platform certificates that one of Intel's two intermediate authorities revoked.
	IntelPCKCRL Kind = "intel-pck-crl"
	// IntelRootCRL is the list of certificates that Intel's SGX root revoked.
	IntelRootCRL Kind = "intel-root-crl"
)

// Values of Request.TEE and Request.CA.
const (
	SGX         = "sgx"
	TDX         = "tdx"
	ProcessorCA = "processor"
	PlatformCA  = "platform"
)

// products are AMD's product lines. Bergamo and Siena are served as Genoa.
var products = []string{"Milan", "Genoa", "Turin"}

// turin is the line whose chip IDs have eight bytes.
const turin = "Turin"

// Request names one piece of collateral. The functions below make one; fields that its kind does not use stay zero.
type Request struct {
	Kind Kind
	// Product is AMD's product line: Milan, Genoa (also for Bergamo and Siena) or Turin.
	Product string
	// VLEK asks for chain or revocation list of the authority that issues VLEKs, instead of VCEKs.
	VLEK bool
	// ChipID is the chip's ID: 64 bytes, on Turin eight.
	ChipID []byte
	// TCB is the TCB version in the order of bytes that reports have.
	TCB [8]byte
	// TEE is SGX or TDX.
	TEE string
	// FMSPC is the platform family that a PCK certificate names.
	FMSPC [6]byte
	// CA is ProcessorCA or PlatformCA: who issued the PCK certificate.
	CA string
	// EvaluationNumber asks for the statement with this tcbEvaluationDataNumber; zero for Intel's standard one.
	EvaluationNumber int
}

// VCEK asks for the certificate of a chip under a TCB version. The ID may be a report's whole field, whose unused bytes
// are zero on Turin.
func VCEK(product string, chipID []byte, tcb [8]byte) Request {
	if product == turin && len(chipID) == chipIDSize && len(bytes.Trim(chipID[turinIDSize:], "\x00")) == 0 {
		chipID = chipID[:turinIDSize]
	}
	return Request{Kind: AMDVCEK, Product: product, ChipID: slices.Clone(chipID), TCB: tcb}
}

// Chain asks for a product line's intermediate and root certificates.
func Chain(product string, vlek bool) Request {
	return Request{Kind: AMDChain, Product: product, VLEK: vlek}
}

// CRL asks for the revocation list of a product line's root.
func CRL(product string, vlek bool) Request {
	return Request{Kind: AMDCRL, Product: product, VLEK: vlek}
}

// TCBInfo asks for the TCB levels of a platform family.
func TCBInfo(tee string, fmspc [6]byte) Request {
	return Request{Kind: IntelTCBInfo, TEE: tee, FMSPC: fmspc}
}

// QEIdentity asks for the identity of Intel's quoting enclave.
func QEIdentity(tee string) Request { return Request{Kind: IntelQEIdentity, TEE: tee} }

// PCKCRL asks for the revocation list of one of Intel's intermediate authorities.
func PCKCRL(ca string) Request { return Request{Kind: IntelPCKCRL, CA: ca} }

// RootCRL asks for the revocation list of Intel's root.
func RootCRL() Request { return Request{Kind: IntelRootCRL} }

// Sizes in bytes of a chip ID, and the largest evaluation number that a name may hold.
const (
	chipIDSize    = 64
	turinIDSize   = 8
	maxEvaluation = 99999
)

// Validate returns an error unless the request names exactly one piece of collateral.
func (r Request) Validate() error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("request for collateral %q: %w", string(r.Kind), err)
	}
	return nil
}

func (r Request) validate() error {
	used := Request{Kind: r.Kind}
	var err error
	switch r.Kind {
	case AMDVCEK:
		used.Product, used.ChipID, used.TCB = r.Product, r.ChipID, r.TCB
		err = errors.Join(checkWord("product", r.Product, products...), r.checkChipID())
	case AMDChain, AMDCRL:
		used.Product, used.VLEK = r.Product, r.VLEK
		err = checkWord("product", r.Product, products...)
	case IntelTCBInfo:
		used.TEE, used.FMSPC, used.EvaluationNumber = r.TEE, r.FMSPC, r.EvaluationNumber
		err = errors.Join(checkWord("TEE", r.TEE, SGX, TDX), r.checkEvaluation())
	case IntelQEIdentity:
		used.TEE, used.EvaluationNumber = r.TEE, r.EvaluationNumber
		err = errors.Join(checkWord("TEE", r.TEE, SGX, TDX), r.checkEvaluation())
	case IntelPCKCRL:
		used.CA = r.CA
		err = checkWord("CA", r.CA, ProcessorCA, PlatformCA)
	case IntelRootCRL:
	default:
		return errors.New("the kind is unknown")
	}
	if err == nil && !r.equal(used) {
		err = errors.New("it sets fields that its kind does not use")
	}
	return err
}

func (r Request) equal(o Request) bool {
	return r.Kind == o.Kind && r.Product == o.Product && r.VLEK == o.VLEK && bytes.Equal(r.ChipID, o.ChipID) &&
		r.TCB == o.TCB && r.TEE == o.TEE && r.FMSPC == o.FMSPC && r.CA == o.CA && r.EvaluationNumber == o.EvaluationNumber
}

func checkWord(field, value string, allowed ...string) error {
	if !slices.Contains(allowed, value) {
		return fmt.Errorf("%s is %q, not one of %s", field, value, strings.Join(allowed, ", "))
	}
	return nil
}

func (r Request) checkChipID() error {
	want := chipIDSize
	if r.Product == turin {
		want = turinIDSize
	}
	if len(r.ChipID) != want {
		return fmt.Errorf("chip ID has %d bytes, not %d as on %s", len(r.ChipID), want, r.Product)
	}
	if len(bytes.Trim(r.ChipID, "\x00")) == 0 {
		return errors.New("chip ID is all zeros, as in reports of machines that mask it")
	}
	return nil
}

func (r Request) checkEvaluation() error {
	if r.EvaluationNumber < 0 || r.EvaluationNumber > maxEvaluation {
		return fmt.Errorf("evaluation number is %d, not 0 to %d", r.EvaluationNumber, maxEvaluation)
	}
	return nil
}

// Name returns the canonical name of the request, words of letters, digits and hyphens between slashes: a key in
// evidence and in bundles, and a file's path below a directory. No name is a directory of another. A request that is not
// valid has the empty name, which nothing has.
func (r Request) Name() string {
	if r.validate() != nil {
		return ""
	}
	switch r.Kind {
	case AMDVCEK:
		return "amd/vcek/" + r.Product + "/" + hex.EncodeToString(r.ChipID) + "/" + hex.EncodeToString(r.TCB[:])
	case AMDChain:
		if r.VLEK {
			return "amd/chain/" + r.Product + "/vlek"
		}
		return "amd/chain/" + r.Product + "/vcek"
	case AMDCRL:
		if r.VLEK {
			return "amd/crl/" + r.Product + "-vlek"
		}
		return "amd/crl/" + r.Product
	case IntelTCBInfo:
		return "intel/tcb-info/" + r.TEE + "/" + hex.EncodeToString(r.FMSPC[:]) + r.evaluationSuffix()
	case IntelQEIdentity:
		return "intel/qe-identity/" + r.TEE + r.evaluationSuffix()
	case IntelPCKCRL:
		return "intel/pck-crl/" + r.CA
	}
	return "intel/root-crl"
}

func (r Request) evaluationSuffix() string {
	if r.EvaluationNumber == 0 {
		return ""
	}
	return "-" + strconv.Itoa(r.EvaluationNumber)
}

// maxName bounds a name, in bytes. The longest is that of a chip certificate.
const maxName = 256

// namePattern takes a name apart. What it lets through too much, the comparison in ParseName catches.
var namePattern = regexp.MustCompile(`^(?:` +
	`amd/(vcek)/(Milan|Genoa|Turin)/([0-9a-f]{16,128})/([0-9a-f]{16})|` +
	`amd/(chain)/(Milan|Genoa|Turin)/(vcek|vlek)|` +
	`amd/(crl)/(Milan|Genoa|Turin)(-vlek)?|` +
	`intel/(tcb-info)/(sgx|tdx)/([0-9a-f]{12})(?:-([1-9][0-9]{0,4}))?|` +
	`intel/(qe-identity)/(sgx|tdx)(?:-([1-9][0-9]{0,4}))?|` +
	`intel/(pck-crl)/(processor|platform)|` +
	`intel/(root-crl))$`)

// ParseName returns the request of a name. It accepts exactly what Name returns.
func ParseName(name string) (Request, error) {
	r, err := parseName(name)
	if err != nil {
		return Request{}, fmt.Errorf("parsing name of collateral %q: %w", name[:min(len(name), maxName)], err)
	}
	return r, nil
}

func parseName(name string) (Request, error) {
	var r Request
	if len(name) > maxName {
		return r, fmt.Errorf("it has %d bytes, more than %d", len(name), maxName)
	}
	m := namePattern.FindStringSubmatch(name)
	if m == nil {
		return r, errors.New("it has none of the known forms")
	}
	m = m[1+slices.IndexFunc(m[1:], func(s string) bool { return s != "" }):]
	switch m[0] {
	case "vcek":
		r = Request{Kind: AMDVCEK, Product: m[1], TCB: [8]byte(unhex(m[3])), ChipID: unhex(m[2])}
	case "chain":
		r = Chain(m[1], m[2] == "vlek")
	case "crl":
		r = CRL(m[1], m[2] != "")
	case "tcb-info":
		r = TCBInfo(m[1], [6]byte(unhex(m[2])))
		r.EvaluationNumber, _ = strconv.Atoi("0" + m[3]) // digits alone, at most five
	case "qe-identity":
		r = QEIdentity(m[1])
		r.EvaluationNumber, _ = strconv.Atoi("0" + m[2])
	case "pck-crl":
		r = PCKCRL(m[1])
	case "root-crl":
		r = RootCRL()
	}
	if err := r.validate(); err != nil {
		return Request{}, err
	}
	if r.Name() != name {
		return Request{}, errors.New("it is not canonical")
	}
	return r, nil
}

// unhex decodes what the pattern admitted as hexadecimal; an odd digit at the end is left out, and then the name differs.
func unhex(s string) []byte {
	b, _ := hex.DecodeString(s[:len(s)&^1])
	return b
}
