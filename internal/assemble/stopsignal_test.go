// SPDX-License-Identifier: Apache-2.0

package assemble

import "testing"

func TestParseSignal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]uint32{"": 0, "SIGTERM": 15, "term": 15, "15": 15, "SIGQUIT": 3, "SIGRTMIN": 34, "SIGRTMIN+3": 37, "64": 64} {
		got, err := parseSignal(in)
		if err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"0", "65", "SIG", "SIGNOT", "-9", "SIGRTMIN+31"} {
		got, err := parseSignal(in)
		if err == nil {
			t.Errorf("%q is %d", in, got)
		}
	}
}
