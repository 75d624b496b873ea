// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"

	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy"
)

// mismatch says in which fields a policy that was given differs from the one that a run would have generated: what the
// guest refused, in the words of whoever wrote the two. It compares with the policy's container that differs least, and
// it is an explanation only: a policy in another form than generated ones gives none.
func mismatch(asked *policy.Policy, text []byte) []string {
	given, err := policy.Parse(text)
	if err != nil || len(asked.Containers) != 1 {
		return nil
	}
	if len(given.Containers) == 0 {
		return []string{"the policy lists no container"}
	}
	var least []string
	for i := range given.Containers {
		d := differences(&given.Containers[i], &asked.Containers[0])
		if i == 0 || len(d) < len(least) {
			least = d
		}
	}
	return least
}

// differences are the fields that the guest compares word by word.
func differences(allowed, asked *policy.Container) []string {
	var list []string
	note := func(field, allows, asks string) {
		list = append(list, plain.Printable(fmt.Sprintf("%s: the policy allows %s, this run asks for %s", field, allows, asks)))
	}
	if !slices.Equal(allowed.Layers, asked.Layers) {
		note("layers", describeLayers(allowed.Layers), describeLayers(asked.Layers)+" (another image, or another version of it)")
	}
	if !slices.Equal(allowed.Command, asked.Command) {
		note("command", plain.Command(allowed.Command), plain.Command(asked.Command))
	}
	if allowed.WorkingDir != asked.WorkingDir {
		note("working directory", allowed.WorkingDir, asked.WorkingDir)
	}
	if allowed.NoNewPrivileges != asked.NoNewPrivileges {
		note("no_new_privileges", fmt.Sprint(allowed.NoNewPrivileges), fmt.Sprint(asked.NoNewPrivileges))
	}
	if asked.AllowStdioAccess && !allowed.AllowStdioAccess {
		note("standard streams", "none", "them (--no-stdio goes without)")
	}
	return list
}

// describeLayers names layers by the part of their root hashes that people compare.
func describeLayers(roots []string) string {
	short := make([]string, len(roots))
	for i, r := range roots {
		short[i] = r[:min(len(r), 12)]
	}
	return fmt.Sprint(short)
}
