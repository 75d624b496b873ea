// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write imports.txt")

// TestImports compares what is compiled into the guest with the list that reviewers have seen. The list is the trusted
// computing base in Go besides the standard library; a change to it is a change to what must be trusted.
func TestImports(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing imports: %v", err)
	}
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	slices.SortFunc(lines, bytes.Compare)
	got := append(bytes.Join(lines, []byte("\n")), '\n')
	if *update {
		err = os.WriteFile("imports.txt", got, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("imports.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the guest's imports have changed; if that is right, run the test with -update (-want +got):\n%s", diff)
	}
}
