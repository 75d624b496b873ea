// SPDX-License-Identifier: Apache-2.0

package intel

import "cofferdam.dev/evidence/pcs"

// A status says several things at once. They are told apart here, so that statuses of several parts can be put together:
// each thing that is wrong with one part is wrong with the whole.
type trouble uint8

const (
	swHardening trouble = 1 << iota
	configuration
	relaunch
	outOfDate
	isRevoked
	unknown
)

func troubles(s pcs.Status) trouble {
	switch s {
	case pcs.UpToDate:
		return 0
	case pcs.SWHardeningNeeded:
		return swHardening
	case pcs.ConfigurationNeeded:
		return configuration
	case pcs.ConfigurationAndSWHardeningNeeded:
		return configuration | swHardening
	case TDRelaunchAdvised:
		return relaunch
	case TDRelaunchAdvisedConfigurationNeeded:
		return relaunch | configuration
	case pcs.OutOfDate:
		return outOfDate
	case pcs.OutOfDateConfigurationNeeded:
		return outOfDate | configuration
	case pcs.Revoked:
		return isRevoked
	}
	return unknown
}

// status is the worst status that says all of what is wrong, or is empty when something is wrong that has no name. A part
// that is out of date is not said to need hardening besides: what has to be done is to update it.
func (t trouble) status() pcs.Status {
	config := t&configuration != 0
	switch {
	case t&unknown != 0:
		return ""
	case t&isRevoked != 0:
		return pcs.Revoked
	case t&outOfDate != 0 && config:
		return pcs.OutOfDateConfigurationNeeded
	case t&outOfDate != 0:
		return pcs.OutOfDate
	case t&relaunch != 0 && config:
		return TDRelaunchAdvisedConfigurationNeeded
	case t&relaunch != 0:
		return TDRelaunchAdvised
	case config && t&swHardening != 0:
		return pcs.ConfigurationAndSWHardeningNeeded
	case config:
		return pcs.ConfigurationNeeded
	case t&swHardening != 0:
		return pcs.SWHardeningNeeded
	}
	return pcs.UpToDate
}
