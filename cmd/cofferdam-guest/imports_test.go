// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"testing"

	"cofferdam.dev/internal/testcap"
)

var update = flag.Bool("update", false, "write imports.txt")

// TestImports compares what is compiled into the guest with the list that reviewers have seen. The list is the trusted
// computing base in Go besides the standard library; a change to it is a change to what must be trusted.
func TestImports(t *testing.T) {
	t.Parallel()
	testcap.Imports(t, *update)
}
