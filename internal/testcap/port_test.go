// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"net"
	"strconv"
	"testing"
)

// TestFreePort gets ports that can be listened on, and of which nobody else gets one, also when it was given back.
func TestFreePort(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 100 {
		port, err := FreePort()
		if err != nil || seen[port] {
			t.Fatalf("port %d, %v; given before: %v", port, err, seen[port])
		}
		seen[port] = true
		if err := reserve(port); err == nil {
			t.Errorf("port %d is given twice", port)
		}
	}
	for port := range seen {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Error(err)
			continue
		}
		_ = l.Close() // it was free
	}
}
