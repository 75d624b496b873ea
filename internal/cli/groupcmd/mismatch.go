// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy"
	reading "cofferdam.dev/policy/explain"
	"cofferdam.dev/policy/replay"
)

// entry is the place of a container in a policy, before the name of a field.
var entry = regexp.MustCompile(`^containers\[[0-9]*\]\.`)

// mismatch says why a policy that was given does not admit what a run asked for, by putting to it the least request
// that the run's own policy admits: what the guest refused, in the words of whoever wrote the two. It is an explanation
// only: there is none for a policy that the engine here can not ask, or that refused for another reason.
func mismatch(ctx context.Context, asked *policy.Policy, text []byte) []string {
	if len(asked.Containers) != 1 {
		return nil
	}
	c, id := asked.Containers[0], strings.Repeat("0", 64)
	x, err := reading.First(ctx, text, append(replay.Mount(c, id), replay.Create(c, id)))
	if err != nil || x.Allowed {
		return nil
	}
	var list []string
	note := func(f reading.Fault) {
		list = append(list, plain.Printable(fmt.Sprintf("%s: the policy allows %s, this run asks for %s",
			entry.ReplaceAllString(f.Rule, ""), f.Expected, f.Actual)))
	}
	if x.Nearest != nil {
		for _, f := range x.Nearest.Faults {
			note(f)
		}
		return list
	}
	for _, f := range x.Faults {
		note(f)
		list = append(list, plain.Printable(f.Fix))
	}
	return list
}
