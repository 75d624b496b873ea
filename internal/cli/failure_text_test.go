// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestForeignWords prints an error that quotes somebody who would rather speak to the terminal.
func TestForeignWords(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "err")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{Process: Process{Err: f, LookupEnv: func(string) (string, bool) { return "", false }}}
	code := a.finish(&failure{
		code: exitRefused, err: errors.New("git fetch: remote: \x1b]0;owned\x07\nmore\x1b[2J"), details: []string{"a\x9b1m\u009b"}, fix: "x\x1b[0m",
	})
	_ = f.Close() // written
	out, err := os.ReadFile(path)
	if err != nil || code != exitRefused || len(out) == 0 || bytes.ContainsAny(out, "\x1b\x07\u009b") || !bytes.Contains(out, []byte("\nmore")) {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}
