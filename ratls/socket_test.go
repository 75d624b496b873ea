// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/agent/workload"
	"cofferdam.dev/internal/evidencewire"
)

var _ Attester = (*attest.Socket)(nil)

// TestIdentityFromTheAgentsSocket connects to a server whose evidence comes as it does in a container of a group: from the
// guest's agent, through the socket.
func TestIdentityFromTheAgentsSocket(t *testing.T) {
	t.Parallel()
	a, b := guests(t)
	root, err := os.MkdirTemp("", "r") // short enough for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	agent := &workload.Server{Root: root}
	dir, err := agent.Open("c", []byte("package policy\n"), a.Report)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Close("c") })
	socket, err := attest.OpenSocket(filepath.Join(dir, evidencewire.SocketName))
	if err != nil {
		t.Fatal(err)
	}
	server := identity(t, socket).Server(nil)
	for name, c := range map[string]struct {
		trusted *guest
		ok      bool
	}{"this guest": {a, true}, "another guest": {b, false}} {
		ours, theirs := net.Pipe()
		go func() { _ = tls.Server(theirs, server).HandshakeContext(t.Context()) }() // the client says what came of it
		err := tls.Client(ours, NewPeers(trusts(c.trusted)).Client()).HandshakeContext(t.Context())
		if (err == nil) != c.ok {
			t.Errorf("a client that trusts %s: %v", name, err)
		}
		_, _ = ours.Close(), theirs.Close()
	}
}
