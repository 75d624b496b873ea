// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
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
	for name, tc := range map[string]struct {
		env  spec.EnvVar
		want string
	}{
		"by name":      {spec.EnvVar{Name: "DB_PASSWORD", Value: "hunter2"}, "warning: DB_PASSWORD looks like a secret"},
		"said already": {spec.EnvVar{Name: "DB_PASSWORD", Value: "hunter2", Secret: true}, ""},
		"nothing":      {spec.EnvVar{Name: "MODE", Value: "hunter2"}, ""},
	} {
		f, err := os.CreateTemp(t.TempDir(), "stderr")
		if err != nil {
			t.Fatal(err)
		}
		a := New(&console.Console{Color: "never", Process: console.Process{Err: f, LookupEnv: os.LookupEnv}})
		g := &spec.Group{Containers: []spec.Container{{Name: "web", Env: []spec.EnvVar{tc.env}}}}
		p := &policy.Policy{Containers: []policy.Container{{Name: "web", EnvRules: []policy.EnvRule{
			{Pattern: tc.env.Name + "=" + tc.env.Value, Strategy: policy.StrategyString},
		}}}}
		a.WarnSecrets(g, p)
		said, err := os.ReadFile(f.Name())
		_ = f.Close() // it was read
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(string(said), tc.want) || tc.want == "" && len(said) > 0 {
			t.Errorf("%s: said %q, want %q", name, said, tc.want)
		}
		if strings.Contains(string(said), "hunter2") {
			t.Errorf("%s: the warning shows the value: %s", name, said)
		}
	}
}
