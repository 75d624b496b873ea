// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

// serveFiles gives out the files of a directory by HTTP, with ranges, and writes the port into a file: servefiles DIRECTORY FILE.
func serveFiles() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fatalf("%v", err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err == nil {
		err = os.WriteFile(os.Args[2]+".tmp", []byte(port), 0o600)
	}
	if err == nil {
		err = os.Rename(os.Args[2]+".tmp", os.Args[2]) // who finds it there finds all of it
	}
	if err != nil {
		fatalf("%v", err)
	}
	fmt.Fprintln(os.Stderr, http.Serve(l, http.FileServer(http.Dir(os.Args[1]))))
}
