// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/strictjson"
)

// reportMembers are the members of an SNP report in JSON: those of the ABI's table, in snake case, without reserved ones.
// Reserved bytes are zero; were they not, the signature would not verify.
var reportMembers = []string{
	"version", "guest_svn", "policy", "family_id", "image_id", "vmpl", "sig_algo", "current_tcb", "plat_info", "key_info", "report_data",
	"measurement", "host_data", "id_key_digest", "author_key_digest", "report_id", "report_id_ma", "reported_tcb", "cpuid_fam_id",
	"cpuid_mod_id", "cpuid_step", "chip_id", "committed_tcb", "current", "committed", "launch_tcb", "launch_mit_vector",
	"current_mit_vector", "signature",
}

// Sizes of a signature's components: as they are written, and what of it P-384 needs.
const (
	componentSize = 72
	p384Size      = 48
)

// parseReport puts the 1184 bytes of a report together again.
func parseReport(o strictjson.Object) ([]byte, error) {
	if err := o.Only(reportMembers...); err != nil {
		return nil, err
	}
	d := &decoder{o: o}
	r := &snp.Report{
		Version: d.u32("version"), GuestSVN: d.u32("guest_svn"), Policy: snp.GuestPolicy(d.u64("policy")), VMPL: d.u32("vmpl"),
		SignatureAlgorithm: d.u32("sig_algo"), PlatformInfo: snp.PlatformInfo(d.u64("plat_info")), KeyInfo: snp.KeyInfo(d.u32("key_info")),
		CurrentTCB: d.tcb("current_tcb"), ReportedTCB: d.tcb("reported_tcb"), CommittedTCB: d.tcb("committed_tcb"), LaunchTCB: d.tcb("launch_tcb"),
		CPUID:          snp.CPUID{Family: d.u8("cpuid_fam_id"), Model: d.u8("cpuid_mod_id"), Stepping: d.u8("cpuid_step")},
		CurrentVersion: d.version("current"), CommittedVersion: d.version("committed"),
		LaunchMitigations: d.optional("launch_mit_vector"), CurrentMitigations: d.optional("current_mit_vector"),
	}
	for name, to := range map[string][]byte{
		"family_id": r.FamilyID[:], "image_id": r.ImageID[:], "report_data": r.ReportData[:], "measurement": r.Measurement[:],
		"host_data": r.HostData[:], "id_key_digest": r.IDKeyDigest[:], "author_key_digest": r.AuthorKeyDigest[:], "report_id": r.ReportID[:],
		"report_id_ma": r.ReportIDMA[:], "chip_id": r.ChipID[:],
	} {
		d.bytes(d.o, name, to)
	}
	d.signature(r)
	if d.err != nil {
		return nil, d.err
	}
	b := r.Marshal()
	if _, err := snp.ParseReport(b); err != nil {
		return nil, err
	}
	return b, nil
}

// decoder reads members and keeps the first error.
type decoder struct {
	o   strictjson.Object
	err error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) number(o strictjson.Object, name string, to any) {
	if err := json.Unmarshal(o[name], to); err != nil || null(o[name]) {
		d.fail(fmt.Errorf("%q is not there, or no number that fits", name))
	}
}

func (d *decoder) u32(name string) (v uint32) { d.number(d.o, name, &v); return v }
func (d *decoder) u64(name string) (v uint64) { d.number(d.o, name, &v); return v }

// u8 reads a member that reports of older versions do not have.
func (d *decoder) u8(name string) (v uint8) {
	if d.o.Has(name) && !null(d.o[name]) {
		d.number(d.o, name, &v)
	}
	return v
}

func (d *decoder) optional(name string) (v uint64) {
	if d.o.Has(name) && !null(d.o[name]) {
		d.number(d.o, name, &v)
	}
	return v
}

func (d *decoder) bytes(o strictjson.Object, name string, to []byte) {
	b, err := numbers(o, name, len(to), len(to))
	if err != nil {
		d.fail(err)
		return
	}
	copy(to, b)
}

func (d *decoder) object(name string, members ...string) strictjson.Object {
	o, err := d.o.Object(name)
	if err == nil {
		err = o.Only(members...)
	}
	if err != nil {
		d.fail(fmt.Errorf("%q: %w", name, err))
	}
	return o
}

// tcb reads the parts of a TCB version. Only Turin has an FMC, which tells the two layouts apart.
func (d *decoder) tcb(name string) snp.TCB {
	o := d.object(name, "fmc", "bootloader", "tee", "snp", "microcode")
	var p snp.TCBParts
	line := snp.Genoa
	if o.Has("fmc") && !null(o["fmc"]) {
		line = snp.Turin
		d.number(o, "fmc", &p.FMC)
	}
	d.number(o, "bootloader", &p.Bootloader)
	d.number(o, "tee", &p.TEE)
	d.number(o, "snp", &p.SNP)
	d.number(o, "microcode", &p.Microcode)
	t, err := p.TCB(line)
	if err != nil {
		d.fail(err)
	}
	return t
}

func (d *decoder) version(name string) (v snp.FirmwareVersion) {
	o := d.object(name, "major", "minor", "build")
	d.number(o, "major", &v.Major)
	d.number(o, "minor", &v.Minor)
	d.number(o, "build", &v.Build)
	return v
}

func (d *decoder) signature(r *snp.Report) {
	o := d.object("signature", "r", "s")
	for name, to := range map[string][]byte{"r": r.R[:], "s": r.S[:]} {
		var wide [componentSize]byte
		d.bytes(o, name, wide[:])
		copy(to, wide[:p384Size])
		if [componentSize - p384Size]byte(wide[p384Size:]) != ([componentSize - p384Size]byte{}) {
			d.fail(errors.New("the signature is wider than P-384"))
		}
	}
}
