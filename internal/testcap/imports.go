// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"bytes"
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// importList is the file of a program's directory that lists what is compiled into it.
const importList = "imports.txt"

// Imports compares what is compiled into the program that the test belongs to, besides the standard library, with the list
// that reviewers have seen: imports.txt beside it. With update it writes the list first.
func Imports(t testing.TB, update bool) {
	t.Helper()
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
	if update {
		err = os.WriteFile(importList, got, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(importList)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the program's imports have changed; if that is right, run the test with -update (-want +got):\n%s", diff)
	}
}
