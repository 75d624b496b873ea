// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"slices"
	"strings"
	"testing"
)

// TestSidecarArguments takes the original's names, flags and script.
func TestSidecarArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		program string
		args    string
		want    string
	}{
		{"cofferdam", "run image", "run image"},
		{"cofferdam", "sidecar", "sidecar"},
		{"/bin/skr", "", "sidecar skr"},
		{"/encfs.sh", "-base64 e30=", "sidecar encfs --result-file result --base64 e30="},
		{"/skr.sh", "e30= 8081", "sidecar skr --result-file result e30= 8081"},
		{"skr", "sidecar", "sidecar skr sidecar"},
		{"cofferdam", "sidecar skr -base64 e30= -server_type=grpc", "sidecar skr --base64 e30= --server-type=grpc"},
		{"/bin/skr", "-port 1 -allowTestingMismatchedTCB", "sidecar skr --port 1 --allow-testing-mismatched-tcb"},
		{"cofferdam", "sidecar skr --server_type http -v -h base64 ---port", "sidecar skr --server-type http -v -h base64 ---port"},
		{"cofferdam", "serve vault -port 1", "serve vault -port 1"},
	} {
		if got := SidecarArguments(c.program, strings.Fields(c.args)); !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s %s: %q, want %q", c.program, c.args, got, c.want)
		}
	}
}
