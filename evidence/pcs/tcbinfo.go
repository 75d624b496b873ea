// SPDX-License-Identifier: Apache-2.0

package pcs

import "fmt"

// TCBSize is the number of components of an SGX or a TDX TCB.
const TCBSize = 16

// The values of TCBInfo.ID.
const (
	// IDSGX is the TCB info of platforms that run SGX enclaves.
	IDSGX = "SGX"
	// IDTDX is the TCB info of platforms that run trust domains.
	IDTDX = "TDX"
)

// TCBInfo says for all platforms of one model which TCB levels there are, and what each is worth.
type TCBInfo struct {
	Signed

	// ID is IDSGX or IDTDX. Version 2 has only the former.
	ID string
	// FMSPC is the platform model.
	FMSPC [6]byte
	// PCEID identifies the provisioning certification enclave.
	PCEID [2]byte
	// Module is the TDX module of version 1.0, in TCB info for TDX only.
	Module *Module
	// ModuleIdentities are TDX modules of later versions, each with TCB levels of its own.
	ModuleIdentities []ModuleIdentity
	// Levels are the TCB levels in the order in which they apply: the first that a platform reaches is its own.
	Levels []Level
}

// Module is what identifies a TDX module.
type Module struct {
	// MRSigner is the SHA-384 of the key that signed the module; zero means Intel's.
	MRSigner [48]byte
	// Attributes are the SEAM attributes that are expected in the bits that AttributesMask has.
	Attributes, AttributesMask [8]byte
}

// ModuleIdentity is a TDX module of a certain major version.
type ModuleIdentity struct {
	Module

	// ID is "TDX_" and the module's major version in two hexadecimal digits.
	ID string
	// Levels are the module's TCB levels in the order in which they apply.
	Levels []EnclaveLevel
}

// Level is one TCB level of a platform.
type Level struct {
	Verdict

	// SGX are the lowest security versions of the components that SGX depends on, and PCESVN that of the provisioning
	// certification enclave.
	SGX    [TCBSize]uint8
	PCESVN uint16
	// TDX are the lowest security versions of the components that TDX depends on, in TCB info for TDX only.
	TDX [TCBSize]uint8
}

// ParseTCBInfo decodes a TCB info as the service serves it: an object of the members tcbInfo and signature.
func ParseTCBInfo(b []byte) (*TCBInfo, error) {
	r := &reader{}
	t := &TCBInfo{}
	signed, o := r.open(b, []string{"tcbInfo"}, []string{
		"signature", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber", "tcbLevels",
	})
	if len(r.errs) == 0 {
		t.Signed = signed
		t.read(o)
	}
	if err := r.err("TCB info"); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *TCBInfo) read(o object) {
	t.Version = int(o.number("version", 1<<15))
	switch {
	case t.Version == 2:
		t.ID = IDSGX
	case t.Version == 3:
		if t.ID = o.text("id"); t.ID != IDSGX && t.ID != IDTDX && o.has("id") {
			o.r.fail(o.at("id"), "is %.20q, not %q or %q", t.ID, IDSGX, IDTDX)
		}
	case o.has("version"):
		o.r.fail(o.at("version"), "is %d, not 2 or 3", t.Version)
	}
	t.dates(o)
	t.number(o)
	o.hex("fmspc", t.FMSPC[:])
	o.hex("pceId", t.PCEID[:])
	if o.number("tcbType", 1<<15) != 0 { // 0 is the only composition of CPUSVN that Intel defines
		o.r.fail(o.at("tcbType"), "is not 0")
	}
	if t.ID == IDTDX {
		m := o.object("tdxModule").module()
		t.Module = &m
		for _, id := range o.objects("tdxModuleIdentities", maxModules, true) {
			t.ModuleIdentities = append(t.ModuleIdentities, ModuleIdentity{Module: id.module(), ID: id.text("id"), Levels: id.enclaveLevels()})
		}
	}
	for _, l := range o.objects("tcbLevels", maxLevels, false) {
		t.Levels = append(t.Levels, t.level(l))
	}
	if len(t.Levels) == 0 && o.has("tcbLevels") {
		o.r.fail(o.at("tcbLevels"), "is empty")
	}
}

func (o object) module() Module {
	var m Module
	o.hex("mrsigner", m.MRSigner[:])
	o.hex("attributes", m.Attributes[:])
	o.hex("attributesMask", m.AttributesMask[:])
	return m
}

func (t *TCBInfo) level(o object) Level {
	l := Level{Verdict: o.verdict()}
	tcb := o.object("tcb")
	l.PCESVN = uint16(tcb.number("pcesvn", 0xffff))
	if t.Version == 2 {
		for i := range l.SGX {
			l.SGX[i] = uint8(tcb.number(fmt.Sprintf("sgxtcbcomp%02dsvn", i+1), 0xff))
		}
		return l
	}
	tcb.components("sgxtcbcomponents", &l.SGX)
	if t.ID == IDTDX {
		tcb.components("tdxtcbcomponents", &l.TDX)
	}
	return l
}

// components reads an array of exactly as many components as there are.
func (o object) components(name string, dst *[TCBSize]uint8) {
	list := o.objects(name, TCBSize, false)
	if len(list) != TCBSize && o.has(name) {
		o.r.fail(o.at(name), "has %d components, not %d", len(list), TCBSize)
		return
	}
	for i, c := range list {
		dst[i] = uint8(c.number("svn", 0xff))
	}
}
