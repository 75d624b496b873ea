// SPDX-License-Identifier: Apache-2.0

package attestsvc

import "testing"

// TestDebugStatus has a machine that can be debugged beneath a paravisor not pass for one that can not.
func TestDebugStatus(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"none":          {map[string]any{}, "disabled-since-boot"},
		"a guest":       {map[string]any{"x-ms-sevsnpvm-is-debuggable": true}, "enabled"},
		"an enclave":    {map[string]any{"x-ms-sgx-is-debuggable": true}, "enabled"},
		"a domain":      {map[string]any{"tdx_td_attributes_debug": true}, "enabled"},
		"not":           {map[string]any{"x-ms-sevsnpvm-is-debuggable": false}, "disabled-since-boot"},
		"beneath a VM":  {map[string]any{"x-ms-isolation-tee": map[string]any{"tdx_td_attributes_debug": true}}, "enabled"},
		"not beneath":   {map[string]any{"x-ms-isolation-tee": map[string]any{"x-ms-sevsnpvm-is-debuggable": false}}, "disabled-since-boot"},
		"another thing": {map[string]any{"x-ms-isolation-tee": "tdx"}, "disabled-since-boot"},
	} {
		if got := debugStatus(c.claims); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
