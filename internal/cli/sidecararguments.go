// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"
	"slices"
	"strings"
)

// skrFlags are the flags of the original release sidecar, which begin with one hyphen, by their names here.
var skrFlags = map[string]string{
	"base64": "base64", "port": "port", "server_type": "server-type", "loglevel": "loglevel", "logfile": "logfile",
	"allowTestingMismatchedTCB": "allow-testing-mismatched-tcb", "infile": "infile", "keypath": "keypath", "outfile": "outfile",
}

// skrNames are the names of its program and of the script that starts it: called by one of them, this program is it.
var skrNames = []string{"skr", "skr.sh"}

// sidecarArguments turns the arguments of the original release sidecar into ours: the flags of `cofferdam sidecar skr`, and
// those of a program that is called by its name, as container groups do.
func sidecarArguments(program string, args []string) []string {
	if slices.Contains(skrNames, filepath.Base(program)) {
		args = append([]string{"sidecar", "skr"}, args...)
	}
	if len(args) < 2 || args[0] != "sidecar" || args[1] != "skr" {
		return args
	}
	out := slices.Clone(args)
	for i, a := range out[2:] {
		name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		ours, known := skrFlags[name]
		if hyphens := len(a) - len(strings.TrimLeft(a, "-")); !known || hyphens < 1 || hyphens > 2 {
			continue
		}
		out[2+i] = "--" + ours
		if has {
			out[2+i] += "=" + value
		}
	}
	return out
}
