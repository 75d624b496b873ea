// SPDX-License-Identifier: Apache-2.0

package program

import (
	"path"
	"slices"
	"strings"
)

// Names of the programs of the original sidecars: of the release sidecar itself, and the script that starts it.
const (
	nameSKR       = "skr"
	nameSKRScript = "skr.sh"
	// Of the original filesystem sidecar: its script, and the program that the script starts.
	nameEncFS       = "encfs"
	nameEncFSScript = "encfs.sh"
	nameRemoteFS    = "remotefs"
)

// originalFlags are the flags of the original, which begin with one hyphen, by their names here.
var originalFlags = map[string]string{
	"base64": "base64", "port": "port", "server_type": "server-type", "loglevel": "loglevel", "logfile": "logfile",
	"allowTestingMismatchedTCB": "allow-testing-mismatched-tcb", "infile": "infile", "keypath": "keypath", "outfile": "outfile",
}

// Arguments turns a command line into the name of a sidecar and its arguments: by the name that the program was called by,
// as container groups do, or else by the first argument. The name is empty when neither is a sidecar's.
func Arguments(called string, args []string) (name string, rest []string) {
	switch path.Base(called) {
	case nameSKR:
		return nameSKR, skrArguments(args)
	case nameSKRScript:
		return nameSKR, slices.Concat([]string{"--result-file", resultFile}, skrArguments(args))
	case nameEncFS, nameRemoteFS:
		return nameEncFS, skrArguments(args)
	case nameEncFSScript:
		return nameEncFS, slices.Concat([]string{"--result-file", resultFile}, skrArguments(args))
	}
	if len(args) > 0 && (args[0] == nameSKR || args[0] == nameEncFS) {
		return args[0], skrArguments(args[1:])
	}
	return "", args
}

// Called says whether a program of this name is a sidecar, whatever its arguments.
func Called(program string) bool {
	return slices.Contains([]string{nameSKR, nameSKRScript, nameEncFS, nameEncFSScript, nameRemoteFS}, path.Base(program))
}

// skrArguments turns flags of the original sidecars into ours.
func skrArguments(args []string) []string {
	out := slices.Clone(args)
	for i, a := range out {
		name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
		ours, known := originalFlags[name]
		if hyphens := len(a) - len(strings.TrimLeft(a, "-")); !known || hyphens < 1 || hyphens > 2 {
			continue
		}
		out[i] = "--" + ours
		if has {
			out[i] += "=" + value
		}
	}
	return out
}
