// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"

	"cofferdam.dev/internal/testchain"
	"cofferdam.dev/internal/testledger"
)

// makeLedger makes a ledger, writes its keys to keys.json in a directory, and gives each message a receipt of it, in
// FILE.recorded, and the receipt alone in FILE.receipt: mkledger DIR NAME FILE...
func makeLedger() {
	if len(os.Args) < 3 {
		fatalf("usage: mkledger DIR NAME FILE...")
	}
	l, err := testledger.Make(os.Args[2])
	if err == nil {
		err = os.MkdirAll(os.Args[1], 0o700)
	}
	var keys []byte
	if err == nil {
		keys, err = l.JWKS()
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(os.Args[1], "keys.json"), keys, 0o600)
	}
	for _, name := range os.Args[3:] {
		var message, receipt []byte
		if err == nil {
			message, err = os.ReadFile(name)
		}
		if err == nil {
			receipt, err = l.Receipt(message)
		}
		if err == nil {
			err = os.WriteFile(name+".receipt", receipt, 0o600)
		}
		if err == nil {
			message, err = l.Attach(message)
		}
		if err == nil {
			err = os.WriteFile(name+".recorded", message, 0o600)
		}
	}
	if err != nil {
		fatalf("%v", err)
	}
}

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
