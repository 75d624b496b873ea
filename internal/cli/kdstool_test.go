// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/simsp/kds"
)

// serveKDS serves the certificates of the simulated processor of COFFERDAM_HOME and writes the URL to a file: mkkds FILE.
func serveKDS() {
	if len(os.Args) != 2 {
		fatalf("usage: mkkds FILE")
	}
	p, err := simsp.Open(filepath.Join(os.Getenv("COFFERDAM_HOME"), "simsp"))
	if err != nil {
		fatalf("%v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fatalf("%v", err)
	}
	if err := os.WriteFile(os.Args[1]+".tmp", []byte("http://"+l.Addr().String()), 0o600); err != nil {
		fatalf("%v", err)
	}
	if err := os.Rename(os.Args[1]+".tmp", os.Args[1]); err != nil {
		fatalf("%v", err)
	}
	server := http.Server{Handler: kds.New(p, kds.Options{}), ReadHeaderTimeout: 10 * time.Second}
	fatalf("%v", server.Serve(l))
}
