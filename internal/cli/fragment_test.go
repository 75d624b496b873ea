// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"

	"cofferdam.dev/internal/testchain"
)

// makeChain writes key.pem and chain.pem of a new signer into a directory: mkchain DIR NAME.
func makeChain() {
	if len(os.Args) != 3 {
		fatalf("usage: mkchain DIR NAME")
	}
	c, err := testchain.Make(os.Args[2], nil)
	if err == nil {
		err = os.MkdirAll(os.Args[1], 0o700)
	}
	if err == nil {
		err = c.Write(os.Args[1])
	}
	if err != nil {
		fatalf("%v", err)
	}
}
