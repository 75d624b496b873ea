// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"strings"
	"testing"

	"cofferdam.dev/internal/sidecar/program"
	"cofferdam.dev/internal/testcap"
)

var update = flag.Bool("update", false, "write imports.txt")

// TestImports compares what is compiled into the sidecars with the list that reviewers have seen.
func TestImports(t *testing.T) {
	t.Parallel()
	testcap.Imports(t, *update)
}

// TestRoles finds the sidecar by the program's name or the first argument, and says what is wrong before anything is opened.
func TestRoles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, called, args string
		want               string // part of the error
	}{
		{"nothing", "/bin/cofferdam-sidecar", "", "want the name of a sidecar"},
		{"unknown", "/bin/cofferdam-sidecar", "other", "want the name of a sidecar"},
		{"by argument", "/bin/cofferdam-sidecar", "skr -server_type soap", `--server-type is "soap"`},
		{"by name", "/bin/skr", "-server_type soap", `--server-type is "soap"`},
		{"as the script", "/skr.sh", "e30= 99999", `the port is "99999"`},
		{"filesystems", "/encfs.sh", "", "there is no configuration"},
		{"filesystems by argument", "/bin/cofferdam-sidecar", "encfs -port x -base64 e30=", `the port is "x"`},
		{"the program below the script", "/bin/remotefs", "-base64 e30= -loglevel loud", `--loglevel is "loud"`},
		{"unknown flag", "/bin/skr", "-depth 3", "flag provided but not defined: -depth"},
		{"no argument is a name then", "/bin/skr", "skr 8080 3", "at most a configuration and a port"},
	} {
		err := run(t.Context(), c.called, strings.Fields(c.args))
		if _, ok := errors.AsType[*program.UsageError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want a usage error with %q", c.name, err, c.want)
		}
	}
}
