// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/spec"
)

func TestReadEnvFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "env")
	err := os.WriteFile(file, []byte("# comment\n\nA=1\r\n  B=two words # kept \nFROM_US\nEMPTY=\nLAST=x"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readEnvFiles([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"A=1", "B=two words # kept ", "FROM_US", "EMPTY=", "LAST=x"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("environment (-want +got):\n%s", d)
	}
}

func TestWarnSecrets(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"DB_PASSWORD=x": true, "api_key=x": true, "GITHUB_TOKEN=x": true, "AWS_SECRET_ACCESS_KEY=x": true, "PASS=x": true,
		"X=-----BEGIN RSA PRIVATE KEY-----": true, "X=ghp_0123456789abcdef": true,
		"PASSWORD=": false, "PATH=/bin": false, "COMPASS=north": false, "TOKENIZER=bpe": false, "AUTHOR=me": false,
	} {
		f, err := os.CreateTemp(t.TempDir(), "stderr")
		if err != nil {
			t.Fatal(err)
		}
		a := &app{color: "never", Process: Process{Err: f}}
		name, value, _ := strings.Cut(in, "=")
		a.warnSecrets([]spec.EnvVar{{Name: name, Value: value}})
		said, err := os.ReadFile(f.Name())
		_ = f.Close() // it was read
		if err != nil {
			t.Fatal(err)
		}
		if (len(said) > 0) != want {
			t.Errorf("%q: warned %v, want %v", in, len(said) > 0, want)
		}
		if len(value) > 1 && strings.Contains(string(said), value) {
			t.Errorf("%q: the warning shows the value: %s", in, said)
		}
	}
}
