// SPDX-License-Identifier: Apache-2.0

package console

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
	a := &Console{Process: Process{Err: f, LookupEnv: func(string) (string, bool) { return "", false }}}
	code := a.Finish(&Failure{
		Code: ExitRefused, Err: errors.New("git fetch: remote: \x1b]0;owned\x07\nmore\x1b[2J"), Details: []string{"a\x9b1m\u009b"}, Fix: "x\x1b[0m",
	})
	_ = f.Close() // written
	out, err := os.ReadFile(path)
	if err != nil || code != ExitRefused || len(out) == 0 || bytes.ContainsAny(out, "\x1b\x07\u009b") || !bytes.Contains(out, []byte("\nmore")) {
		t.Errorf("code %d, error %v, printed %q", code, err, out)
	}
}
