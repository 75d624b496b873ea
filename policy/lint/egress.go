// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"net/netip"
	"slices"

	"cofferdam.dev/policy"
)

// escaping are capabilities with which a container reaches what the guest is made of. The guest takes those for network
// and BPF away by itself where the policy has an egress list.
var escaping = []string{"CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_MAC_ADMIN", "CAP_SYS_BOOT"}

// egress looks at a limit of connections that does not limit.
func (l *linter) egress() {
	if l.outline.Egress == nil {
		return
	}
	line := l.outline.Rules[policy.EgressRuleName].Line
	for i, r := range l.outline.Egress.Rules {
		p, err := netip.ParsePrefix(r.Prefix)
		if err == nil && p.Bits() == 0 && len(r.Ports) == 0 {
			l.add(EgressAnywhere, line, fmt.Sprintf("%s[%d]", policy.EgressRuleName, i), "it allows %s to %s", r.Protocol, r.Prefix)
		}
	}
	for i, c := range l.outline.Containers {
		at := fmt.Sprintf("containers[%d]", i)
		has := func(name string) bool {
			return slices.Contains(c.Capabilities.Bounding, name) || slices.Contains(c.Capabilities.Permitted, name)
		}
		if n := slices.IndexFunc(escaping, has); n >= 0 {
			l.add(EgressEscape, c.Line, at+".capabilities", "%s has %s", describe(c, i), escaping[n])
		} else if c.AllowElevated {
			l.add(EgressEscape, c.Line, at+".allow_elevated", "%s may run privileged", describe(c, i))
		}
	}
}
