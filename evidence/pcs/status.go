// SPDX-License-Identifier: Apache-2.0

package pcs

import (
	"fmt"
	"time"
)

// Status is what Intel says about a TCB level.
type Status string

// The statuses of Intel's documents. Package verify/intel derives two more for guests that were launched before an update
// of the TDX module.
const (
	UpToDate                          Status = "UpToDate"
	SWHardeningNeeded                 Status = "SWHardeningNeeded"
	ConfigurationNeeded               Status = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded Status = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                         Status = "OutOfDate"
	OutOfDateConfigurationNeeded      Status = "OutOfDateConfigurationNeeded"
	Revoked                           Status = "Revoked"
)

// Known reports whether the status is one of the above.
func (s Status) Known() bool {
	switch s {
	case UpToDate, SWHardeningNeeded, ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, OutOfDate,
		OutOfDateConfigurationNeeded, Revoked:
		return true
	}
	return false
}

// Verdict is what a document says about one TCB level.
type Verdict struct {
	// Status is one of the statuses above.
	Status Status
	// Date is the date of the latest TCB recovery event that the level has the mitigations of.
	Date time.Time
	// Advisories are the identifiers of the security advisories that apply at this level, such as INTEL-SA-00837.
	Advisories []string
}

// verdict reads the members that TCB levels of all kinds share.
func (o object) verdict() Verdict {
	v := Verdict{Date: o.time("tcbDate"), Status: Status(o.text("tcbStatus"))}
	if o.has("tcbStatus") && !v.Status.Known() {
		o.r.fail(o.at("tcbStatus"), "is %.40q, which is no known status", string(v.Status))
	}
	for i, a := range o.list("advisoryIDs", maxAdvisories, true) {
		v.Advisories = append(v.Advisories, o.r.text(fmt.Sprintf("%s[%d]", o.at("advisoryIDs"), i), a))
	}
	return v
}

// EnclaveLevel is a TCB level of an enclave or of a TDX module.
type EnclaveLevel struct {
	Verdict

	// ISVSVN is the lowest security version that belongs to the level.
	ISVSVN uint16
}

// enclaveLevels reads the levels of an enclave or a module, at least one, in the order in which they apply.
func (o object) enclaveLevels() []EnclaveLevel {
	var levels []EnclaveLevel
	for _, l := range o.objects("tcbLevels", maxLevels, false) {
		svn := uint16(l.object("tcb").number("isvsvn", 0xffff))
		levels = append(levels, EnclaveLevel{Verdict: l.verdict(), ISVSVN: svn})
	}
	if len(levels) == 0 && o.has("tcbLevels") {
		o.r.fail(o.at("tcbLevels"), "is empty")
	}
	return levels
}
