// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// SimulatedOrganization is the organization that the certificates of a simulated processor name, where AMD's name AMD.
const SimulatedOrganization = "cofferdam simulation, not AMD hardware"

// ChipCertificate is what the extensions of a VCEK or VLEK certificate say. VCEK certificate specification, table
// "X.509 extensions".
type ChipCertificate struct {
	// Key is SigningKeyVCEK or SigningKeyVLEK.
	Key SigningKey
	// StructVersion is the version of the extensions: 1 on Turin, else 0.
	StructVersion uint8
	// ProductName is the product with its stepping, such as "Milan-B0".
	ProductName string
	// Line is the product line of ProductName.
	Line ProductLine
	// TCB is the TCB version that the key belongs to, laid out as in reports of the product line.
	TCB TCB
	// HWID is the chip's ID: 64 bytes, eight on Turin, none in a VLEK certificate.
	HWID []byte
	// CSPID names the cloud provider in a VLEK certificate.
	CSPID string
}

// The arc of AMD's extensions, and the last components that end an object identifier below it.
var (
	oidAMD  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	oidHWID = append(slices.Clone(oidAMD), 4)
)

const (
	extStructVersion = 1
	extProductName   = 2
	extSPL           = 3
	extHWID          = 4
	extCSPID         = 5
)

// Security patch levels below extSPL.
const (
	splBootloader = 1
	splTEE        = 2
	splSNP        = 3
	splReserved4  = 4
	splReserved5  = 5
	splReserved6  = 6
	splReserved7  = 7
	splMicrocode  = 8
	splFMC        = 9
)

// splOrder gives the patch level that fills each byte of a TCB version.
var splOrder = map[ProductLine][8]int{
	Milan: {splBootloader, splTEE, splReserved4, splReserved5, splReserved6, splReserved7, splSNP, splMicrocode},
	Genoa: {splBootloader, splTEE, splReserved4, splReserved5, splReserved6, splReserved7, splSNP, splMicrocode},
	Turin: {splFMC, splBootloader, splTEE, splSNP, splReserved5, splReserved6, splReserved7, splMicrocode},
}

// ParseChipCertificate reads the extensions of a VCEK or VLEK certificate. It does not verify the certificate. Each
// extension may occur once, and a patch level that the product line does not have, or that this package does not know,
// is an error: a TCB that can not be compared whole must not be compared in part.
func ParseChipCertificate(cert *x509.Certificate) (*ChipCertificate, error) {
	c, spl, err := collectExtensions(cert.Extensions)
	if err != nil {
		return nil, fmt.Errorf("parsing chip certificate: %w", err)
	}
	if c.Line, err = ParseProductLine(c.ProductName); err != nil {
		return nil, fmt.Errorf("parsing chip certificate: %w", err)
	}
	if c.TCB, err = assembleTCB(c.Line, spl); err != nil {
		return nil, fmt.Errorf("parsing chip certificate: %w", err)
	}
	if err := c.classify(); err != nil {
		return nil, fmt.Errorf("parsing chip certificate: %w", err)
	}
	return c, nil
}

func collectExtensions(exts []pkix.Extension) (*ChipCertificate, map[int]uint8, error) {
	c := &ChipCertificate{}
	spl := map[int]uint8{}
	seen := map[string]bool{}
	for _, e := range exts {
		if len(e.Id) <= len(oidAMD) || !slices.Equal(e.Id[:len(oidAMD)], oidAMD) {
			continue
		}
		if seen[e.Id.String()] {
			return nil, nil, fmt.Errorf("extension %s occurs twice", e.Id)
		}
		seen[e.Id.String()] = true
		if err := c.extension(e, spl); err != nil {
			return nil, nil, fmt.Errorf("extension %s: %w", e.Id, err)
		}
	}
	for _, need := range []int{extStructVersion, extProductName} {
		if oid := append(slices.Clone(oidAMD), need); !seen[oid.String()] {
			return nil, nil, fmt.Errorf("extension %s is missing", oid)
		}
	}
	return c, spl, nil
}

// extension takes one extension below AMD's arc. Unknown ones that are no patch level say nothing that is relied on.
func (c *ChipCertificate) extension(e pkix.Extension, spl map[int]uint8) (err error) {
	tail := e.Id[len(oidAMD):]
	switch {
	case tail[0] == extSPL && len(tail) == 2:
		spl[tail[1]], err = derUint8(e.Value)
	case len(tail) != 1:
	case tail[0] == extStructVersion:
		c.StructVersion, err = derUint8(e.Value)
	case tail[0] == extProductName:
		c.ProductName, err = derIA5(e.Value)
	case tail[0] == extHWID:
		c.HWID = slices.Clone(e.Value)
	case tail[0] == extCSPID:
		c.CSPID, err = derIA5(e.Value)
	}
	return err
}

func assembleTCB(line ProductLine, spl map[int]uint8) (TCB, error) {
	var t TCB
	for i, n := range splOrder[line] {
		v, ok := spl[n]
		if !ok {
			return TCB{}, fmt.Errorf("patch level %s.3.%d of %s is missing", oidAMD, n, line)
		}
		t[i] = v
		delete(spl, n)
	}
	for n, v := range spl {
		return TCB{}, fmt.Errorf("patch level %s.3.%d is %d, but is not defined for %s", oidAMD, n, v, line)
	}
	return t, nil
}

// classify tells a chip's own key from a provider's: the first names a chip, the second a provider, none names both.
func (c *ChipCertificate) classify() error {
	want := 64
	if c.Line == Turin {
		want = 8
	}
	switch {
	case c.HWID != nil && c.CSPID != "":
		return errors.New("extensions name both a chip and a cloud provider")
	case c.CSPID != "":
		c.Key = SigningKeyVLEK
		return nil
	case c.HWID == nil:
		return fmt.Errorf("extensions name neither a chip (%s) nor a cloud provider", oidHWID)
	case len(c.HWID) != want:
		return fmt.Errorf("chip ID has %d bytes, not the %d of %s", len(c.HWID), want, c.Line)
	}
	c.Key = SigningKeyVCEK
	return nil
}

// ChipExtensions encodes the extensions of a VCEK certificate for a chip and a TCB version. It is the inverse of
// ParseChipCertificate and serves those who issue such certificates: simulators and tests.
func ChipExtensions(product string, tcb TCB, hwid []byte) ([]pkix.Extension, error) {
	return encodeExtensions(product, tcb, pkix.Extension{Id: oidHWID, Value: slices.Clone(hwid)})
}

// ProviderExtensions encodes the extensions of a VLEK certificate for a cloud provider and a TCB version, as ChipExtensions
// does those of a VCEK certificate.
func ProviderExtensions(product string, tcb TCB, cspID string) ([]pkix.Extension, error) {
	for _, c := range []byte(cspID) {
		if c < 0x20 || c > 0x7e {
			return nil, fmt.Errorf("encoding chip extensions: provider %q is not printable ASCII", cspID)
		}
	}
	return encodeExtensions(product, tcb, pkix.Extension{
		Id: append(slices.Clone(oidAMD), extCSPID), Value: marshalDER(cspID, "ia5"),
	})
}

// encodeExtensions encodes what both kinds of certificates have, with what only one has.
func encodeExtensions(product string, tcb TCB, own pkix.Extension) ([]pkix.Extension, error) {
	line, err := ParseProductLine(product)
	if err != nil {
		return nil, fmt.Errorf("encoding chip extensions: %w", err)
	}
	structVersion := 0
	if line == Turin {
		structVersion = 1
	}
	exts := []pkix.Extension{
		{Id: append(slices.Clone(oidAMD), extStructVersion), Value: marshalDER(structVersion, "")},
		{Id: append(slices.Clone(oidAMD), extProductName), Value: marshalDER(product, "ia5")},
	}
	for i, n := range splOrder[line] {
		exts = append(exts, pkix.Extension{
			Id:    append(slices.Clone(oidAMD), extSPL, n),
			Value: marshalDER(int(tcb[i]), ""),
		})
	}
	return append(exts, own), nil
}

// marshalDER encodes an int or an ASCII product name, neither of which can fail.
func marshalDER(v any, params string) []byte {
	b, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		return nil
	}
	return b
}

func derUint8(der []byte) (uint8, error) {
	var v int
	rest, err := asn1.Unmarshal(der, &v)
	if err != nil {
		return 0, fmt.Errorf("decoding integer: %w", err)
	}
	if len(rest) != 0 || v < 0 || v > 0xff {
		return 0, fmt.Errorf("value %d with %d bytes behind it is not one of 0 to 255", v, len(rest))
	}
	return uint8(v), nil
}

func derIA5(der []byte) (string, error) {
	var v string
	if len(der) == 0 || der[0] != asn1.TagIA5String {
		return "", errors.New("value is not an IA5String")
	}
	rest, err := asn1.UnmarshalWithParams(der, &v, "ia5")
	if err != nil {
		return "", fmt.Errorf("decoding string: %w", err)
	}
	if len(rest) != 0 || v == "" {
		return "", fmt.Errorf("string %q has %d bytes behind it", v, len(rest))
	}
	return v, nil
}
