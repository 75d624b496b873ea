// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cofferdam.dev/policy"
)

// eras are the forms of texts that earlier versions of confcom made, and that relying parties may still pin. The
// default fragment's lowest version changed too, which InfrastructureSVN says.
var eras = map[string]Options{
	"0.10.0-sorted-env": {APIVersion: "0.10.0", SortEnv: true, OmitSignals: true, OmitRWMountDevice: true},
	"0.10.0":            {APIVersion: "0.10.0", OmitSignals: true, OmitRWMountDevice: true},
	"0.11.0-no-signals": {APIVersion: "0.11.0", OmitSignals: true},
}

// Eras are the names that SetEra takes, in order.
func Eras() []string { return slices.Sorted(maps.Keys(eras)) }

// SetEra makes the options those of a text of an earlier version of confcom.
func (o *Options) SetEra(name string) error {
	e, ok := eras[name]
	if !ok {
		return fmt.Errorf("form %q is none of %s", name, strings.Join(Eras(), ", "))
	}
	o.APIVersion, o.FrameworkVersion = e.APIVersion, policy.DeployedFramework
	o.SortEnv, o.OmitSignals, o.OmitRWMountDevice = e.SortEnv, e.OmitSignals, e.OmitRWMountDevice
	return nil
}

// APIs are the versions that SetAPI takes, the deployed one first.
func APIs() []string { return []string{policy.DeployedAPI, policy.PrereleaseAPI} }

// SetAPI makes the options those of a version of the policy's interface, with the framework that belongs to it.
func (o *Options) SetAPI(version string) error {
	frameworks := map[string]string{
		policy.DeployedAPI: policy.DeployedFramework, policy.PrereleaseAPI: policy.PrereleaseFramework,
	}
	framework, ok := frameworks[version]
	if !ok {
		return fmt.Errorf("api_version %q is none of %s", version, strings.Join(APIs(), ", "))
	}
	o.APIVersion, o.FrameworkVersion = version, framework
	return nil
}
