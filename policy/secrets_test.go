// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecretsByNameAndShape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"DB_PASSWORD=x": "its name", "api_key=x": "its name", "GITHUB_TOKEN=x": "its name", "AWS_SECRET_ACCESS_KEY=x": "its name",
		"PASS=x": "its name", "AZURE_STORAGE_CONNECTION_STRING=x": "its name",
		"X=-----BEGIN RSA PRIVATE KEY-----":                         "its value",
		"X=ghp_0123456789abcdef":                                    "its value",
		"X=eyJhbGciOiJub25lIn0.eyJhIjoxfQ.sig":                      "its value",
		"X=a;AccountKey=" + strings.Repeat("A", 86) + "==":          "its value",
		"X=https://s.example/c?sv=1&sig=" + strings.Repeat("A", 43): "its value",
		"X=postgres://me:hunter2@db/x":                              "its value",
		"X=postgres://me@db/x":                                      "",
		"PASSWORD=":                                                 "", "PATH=/bin": "", "COMPASS=north": "", "TOKENIZER=bpe": "", "AUTHOR=me": "", "GPG_KEY=7169605F62C751356D05": "",
	} {
		p := minimal()
		p.Containers[0].EnvRules = []EnvRule{{Pattern: in, Strategy: StrategyString}}
		name, _, _ := strings.Cut(in, "=")
		var expect []Secret
		if want != "" {
			expect = []Secret{{Container: "number 1", Place: name, Why: want}}
		}
		if diff := cmp.Diff(expect, p.Secrets()); diff != "" {
			t.Errorf("%q: %s", in, diff)
		}
	}
}

func TestSecretsElsewhere(t *testing.T) {
	t.Parallel()
	p := minimal()
	c := &p.Containers[0]
	c.Name = "web"
	c.Command = []string{"run", "--db-password=hunter2", "--verbose"}
	c.ExecProcesses = []ExecProcess{{Command: []string{"curl", "https://u:hunter2@h/"}}}
	c.EnvRules = []EnvRule{
		{Name: "TOKEN", NameStrategy: StrategyString, Value: "hunter2", ValueStrategy: StrategyString},
		{Name: "TOKEN", NameStrategy: StrategyString, Value: ".+", ValueStrategy: StrategyRegexp},
		{Pattern: "SECRET=.+", Strategy: StrategyRegexp},
	}
	got := p.Secrets()
	want := []Secret{
		{"web", "TOKEN", "its name"}, {"web", "command, argument 1", "its name"}, {"web", "exec command 1, argument 1", "its value"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Errorf("a finding shows the secret: %v", got)
	}
}
