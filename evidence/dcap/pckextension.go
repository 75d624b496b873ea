// SPDX-License-Identifier: Apache-2.0

package dcap

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// oidSGX is the extension, and the arc of what is in it.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// Numbers below oidSGX.
const (
	pckPPID          = 1
	pckTCB           = 2
	pckPCEID         = 3
	pckFMSPC         = 4
	pckType          = 5
	pckInstanceID    = 6
	pckConfiguration = 7

	// Below pckTCB: components are 1 to CPUComponents.
	tcbPCESVN = 17
	tcbCPUSVN = 18

	// Below pckConfiguration.
	configDynamic    = 1
	configCachedKeys = 2
	configSMT        = 3
)

// sgxValue is one entry of the extension.
type sgxValue struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// ParsePCK reads the SGX extension of a PCK certificate. It does not verify the certificate. Everything in the extension
// must be known and occur once, and all but the platform's part must occur: a TCB that can not be compared whole must not
// be compared in part.
func ParsePCK(cert *x509.Certificate) (*PCK, error) {
	var found [][]byte
	for _, e := range cert.Extensions {
		if e.Id.Equal(oidSGX) {
			found = append(found, e.Value)
		}
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("parsing PCK certificate: extension %s occurs %d times, not once", oidSGX, len(found))
	}
	p := &PCK{}
	platform := &PCKPlatform{}
	seen, err := walk(found[0], oidSGX, func(n int, v asn1.RawValue) error { return p.value(platform, n, v) })
	if err != nil {
		return nil, fmt.Errorf("parsing PCK certificate: %w", err)
	}
	for n := pckPPID; n <= pckType; n++ {
		if !slices.Contains(seen, n) {
			return nil, fmt.Errorf("parsing PCK certificate: %s.%d is missing", oidSGX, n)
		}
	}
	instance, config := slices.Contains(seen, pckInstanceID), slices.Contains(seen, pckConfiguration)
	if instance != config {
		return nil, errors.New("parsing PCK certificate: it has one of platform instance ID and configuration, but not both")
	}
	if instance {
		p.Platform = platform
	}
	return p, nil
}

// walk reads a sequence of entries below an arc and returns their numbers. No number may occur twice.
func walk(der []byte, arc asn1.ObjectIdentifier, use func(n int, v asn1.RawValue) error) ([]int, error) {
	var list []sgxValue
	rest, err := asn1.Unmarshal(der, &list)
	if err != nil {
		return nil, fmt.Errorf("decoding %s: %w", arc, err)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("decoding %s: %d bytes follow", arc, len(rest))
	}
	var seen []int
	for _, e := range list {
		if len(e.ID) != len(arc)+1 || !e.ID[:len(arc)].Equal(arc) {
			return nil, fmt.Errorf("%s is not below %s", e.ID, arc)
		}
		n := e.ID[len(arc)]
		if slices.Contains(seen, n) {
			return nil, fmt.Errorf("%s occurs twice", e.ID)
		}
		seen = append(seen, n)
		if err := use(n, e.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", e.ID, err)
		}
	}
	return seen, nil
}

func (p *PCK) value(platform *PCKPlatform, n int, v asn1.RawValue) error {
	switch n {
	case pckPPID:
		return octets(v, p.PPID[:])
	case pckTCB:
		return p.tcb(v.FullBytes)
	case pckPCEID:
		return octets(v, p.PCEID[:])
	case pckFMSPC:
		return octets(v, p.FMSPC[:])
	case pckType:
		var t asn1.Enumerated
		if _, err := asn1.Unmarshal(v.FullBytes, &t); err != nil {
			return fmt.Errorf("decoding enumeration: %w", err)
		}
		p.Type = SGXType(t)
		if t < 0 || t > 0xff {
			return fmt.Errorf("SGX type is %d, not 0 to 255", t)
		}
		return nil
	case pckInstanceID:
		return octets(v, platform.InstanceID[:])
	case pckConfiguration:
		_, err := walk(v.FullBytes, below(oidSGX, pckConfiguration), platform.flag)
		return err
	}
	return errors.New("it is unknown")
}

func (p *PCK) tcb(der []byte) error {
	arc := below(oidSGX, pckTCB)
	seen, err := walk(der, arc, func(n int, v asn1.RawValue) error {
		switch {
		case n >= 1 && n <= CPUComponents:
			svn, err := integer(v, 0xff)
			p.Components[n-1] = uint8(svn)
			return err
		case n == tcbPCESVN:
			svn, err := integer(v, 0xffff)
			p.PCESVN = uint16(svn)
			return err
		case n == tcbCPUSVN:
			return octets(v, p.CPUSVN[:])
		}
		return errors.New("it is unknown")
	})
	if err != nil {
		return err
	}
	for n := 1; n <= tcbCPUSVN; n++ {
		if !slices.Contains(seen, n) {
			return fmt.Errorf("%s.%d is missing", arc, n)
		}
	}
	return nil
}

func (c *PCKPlatform) flag(n int, v asn1.RawValue) error {
	field := map[int]**bool{configDynamic: &c.Dynamic, configCachedKeys: &c.CachedKeys, configSMT: &c.SMT}[n]
	if field == nil {
		return errors.New("it is unknown")
	}
	var set bool
	if _, err := asn1.Unmarshal(v.FullBytes, &set); err != nil {
		return fmt.Errorf("decoding boolean: %w", err)
	}
	*field = &set
	return nil
}

// octets reads an OCTET STRING that fills to.
func octets(v asn1.RawValue, to []byte) error {
	var b []byte
	if _, err := asn1.Unmarshal(v.FullBytes, &b); err != nil {
		return fmt.Errorf("decoding bytes: %w", err)
	}
	if len(b) != len(to) {
		return fmt.Errorf("size is %d bytes, not %d", len(b), len(to))
	}
	copy(to, b)
	return nil
}

func integer(v asn1.RawValue, limit int) (int, error) {
	var n int
	if _, err := asn1.Unmarshal(v.FullBytes, &n); err != nil {
		return 0, fmt.Errorf("decoding integer: %w", err)
	}
	if n < 0 || n > limit {
		return 0, fmt.Errorf("value is %d, not 0 to %d", n, limit)
	}
	return n, nil
}

func below(arc asn1.ObjectIdentifier, n int) asn1.ObjectIdentifier {
	return append(slices.Clone(arc), n)
}

// Extension encodes the SGX extension. It is the inverse of ParsePCK and serves those who issue such certificates:
// simulators and tests.
func (p *PCK) Extension() (pkix.Extension, error) {
	var tcb, list []sgxEntry
	arc := below(oidSGX, pckTCB)
	for i, svn := range p.Components {
		tcb = append(tcb, sgxEntry{below(arc, i+1), int(svn)})
	}
	tcb = append(tcb, sgxEntry{below(arc, tcbPCESVN), int(p.PCESVN)}, sgxEntry{below(arc, tcbCPUSVN), p.CPUSVN[:]})
	list = append(list, sgxEntry{below(oidSGX, pckPPID), p.PPID[:]}, sgxEntry{arc, tcb},
		sgxEntry{below(oidSGX, pckPCEID), p.PCEID[:]}, sgxEntry{below(oidSGX, pckFMSPC), p.FMSPC[:]},
		sgxEntry{below(oidSGX, pckType), asn1.Enumerated(p.Type)})
	if c := p.Platform; c != nil {
		arc := below(oidSGX, pckConfiguration)
		config := []sgxEntry{}
		for i, flag := range []*bool{c.Dynamic, c.CachedKeys, c.SMT} {
			if flag != nil {
				config = append(config, sgxEntry{below(arc, i+1), *flag})
			}
		}
		list = append(list, sgxEntry{below(oidSGX, pckInstanceID), c.InstanceID[:]}, sgxEntry{arc, config})
	}
	der, err := asn1.Marshal(list)
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encoding SGX extension: %w", err)
	}
	return pkix.Extension{Id: slices.Clone(oidSGX), Value: der}, nil
}

type sgxEntry struct {
	ID    asn1.ObjectIdentifier
	Value any
}
