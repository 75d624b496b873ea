// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"fmt"
	"strings"
)

// sourcesList returns the private sources.list: Debian's suites from the mirrors that the machine itself uses.
func sourcesList(mirror, security string) string {
	var b strings.Builder
	for _, s := range []struct{ base, suite string }{
		{mirror, suite}, {mirror, suite + "-updates"}, {security, suite + "-security"},
	} {
		fmt.Fprintf(&b, "deb [arch=%s signed-by=%s] %s %s main\n", architecture, archiveKeyring, s.base, s.suite)
	}
	return b.String()
}
