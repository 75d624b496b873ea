// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"cofferdam.dev/internal/sandbox/metadata"
)

// The metadata service answers in the group's network where one is configured, in either mode, and nothing else of that
// address does.
func TestMetadata(t *testing.T) {
	t.Parallel()
	at := netip.AddrPortFrom(netip.MustParseAddr(metadata.Address), metadataPort)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, "asked for "+r.URL.Path) })
	for _, mode := range []Mode{NAT, Ingress} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			_, m := start(t, Config{Mode: mode, Metadata: handler})
			c, err := m.connect(at, loadPatience)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			_ = c.SetDeadline(time.Now().Add(loadPatience))
			_, _ = fmt.Fprint(c, "GET /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != "asked for /token" {
				t.Errorf("answer is %q, %v", got, err)
			}
			other := netip.AddrPortFrom(at.Addr(), 81)
			if c, err := m.connect(other, 3*time.Second); err == nil {
				_ = c.Close()
				t.Errorf("guest reached %s", other)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		_, m := start(t, Config{Mode: NAT})
		if c, err := m.connect(at, 3*time.Second); err == nil {
			_ = c.Close()
			t.Error("guest reached a metadata service that nobody configured")
		}
	})
}
