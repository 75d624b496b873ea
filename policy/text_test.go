// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// stored returns the texts that the confcom extension made, by name.
func stored(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(testcap.Vectors(t, "confcom/aci"), "*", "policy.rego"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no stored policies: %v", err)
	}
	out := map[string][]byte{}
	for _, f := range append(files, testcap.Vectors(t, "policy/policy_attestation.rego")) {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(filepath.Dir(f))] = data
	}
	return out
}

func TestStoredPoliciesRoundTrip(t *testing.T) {
	t.Parallel()
	for name, text := range stored(t) {
		p, err := Parse(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(strings.TrimRight(string(text), "\n"), string(p.Text())); diff != "" {
			t.Errorf("%s: text differs:\n%s", name, diff)
		}
		again, err := Parse(p.PrettyText())
		if err != nil {
			t.Errorf("%s: pretty form: %v", name, err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Errorf("%s: pretty form differs:\n%s", name, diff)
		}
	}
}

func TestStoredHashes(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(testcap.Vectors(t, "confcom/aci/index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index []struct {
		Sample, API string
		SHA256      string `json:"sha256_policy"`
	}
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	texts := stored(t)
	for _, s := range index {
		p, err := Parse(texts[s.Sample])
		if err != nil {
			t.Fatal(err)
		}
		if got := Hash(p.Text()); hex.EncodeToString(got[:]) != s.SHA256 {
			t.Errorf("%s: hash %x, want %s", s.Sample, got, s.SHA256)
		}
	}
}

// minimal is a policy of the plainest kind.
func minimal() *Policy {
	return &Policy{APIVersion: DeployedAPI, FrameworkVersion: DeployedFramework, Containers: []Container{{
		Command: []string{"/bin/true"}, Layers: []string{strings.Repeat("0", 64)}, WorkingDir: "/",
		EnvRules: []EnvRule{{Pattern: "A=b", Strategy: StrategyString}},
	}}}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := string(minimal().Text())
	for name, c := range map[string]struct{ old, new, want string }{
		"other package":       {"package policy", "package other", `line 1: found "package other", expected "package policy\n"`},
		"missing import":      {"import future.keywords.in\n", "", `line 4: found "", expected "import future.keywords.in\n"`},
		"version as number":   {`"0.11.0"`, `11`, `line 6: found "11", expected a version such as`},
		"unknown field":       {`"working_dir"`, `"hack":1,"working_dir"`, `line 11: found`},
		"missing field":       {`,"working_dir":"/"`, ``, `working_dir`},
		"other key order":     {`"allow_elevated":false,"allow_stdio_access":false`, `"allow_stdio_access":false,"allow_elevated":false`, `line 11: found "stdio_access`},
		"space in JSON":       {`"command":[`, `"command": [`, `line 11: found " [`},
		"wrong JSON type":     {`"working_dir":"/"`, `"working_dir":7`, `cannot unmarshal number`},
		"repeated key":        {`"working_dir":"/"`, `"working_dir":"/","working_dir":"/"`, `line 11`},
		"truthy":              {"allow_dump_stacks := false", "allow_dump_stacks := 0", `line 14: found "0", expected true or false`},
		"own rule":            {"exec_external := data.framework.exec_external", "exec_external := {\"allowed\": true}", `line 26: found "exec_external := {`},
		"something after":     {"errors}", "errors}\nx := 1", `expected the end of the text`},
		"escaped differently": {"/bin/true", `/bin/tru\u0065`, `line 11`},
		"not UTF-8":           {"/bin/true", "\xff", `not UTF-8`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(good, c.old, c.new, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse([]byte(text))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if _, err := Parse(make([]byte, MaxTextSize+1)); err == nil {
		t.Error("oversized text was accepted")
	}
	if _, err := Parse(nil); err == nil {
		t.Error("empty text was accepted")
	}
}

// TestEscapes compares with what Python's json.dumps wrote for the same strings.
func TestEscapes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`<&>'/`:                  `"<&>'/"`,
		"\"\\":                   `"\"\\"`,
		"\b\f\n\r\t\x00\x1f\x7f": `"\b\f\n\r\t\u0000\u001f\u007f"`,
		"é\u2028€":               `"\u00e9\u2028\u20ac"`,
		"\U0001f600 \ufffd":      `"\ud83d\ude00 \ufffd"`,
	} {
		if got := encode(in, false); got != want {
			t.Errorf("%q is written %s, want %s", in, got, want)
		}
	}
}

func TestEmptyListsAreNoNulls(t *testing.T) {
	t.Parallel()
	p := minimal()
	p.Containers[0].ExecProcesses = []ExecProcess{{}}
	p.Containers[0].Mounts = []Mount{{}}
	p.Fragments = []Fragment{{}}
	if text := p.Text(); bytes.Contains(text, []byte("null")) {
		t.Errorf("text has null: %s", text)
	}
	if p.Containers[0].Mounts[0].Options != nil {
		t.Error("writing changed the policy")
	}
	p.Containers[0].Command = nil
	if text := p.Text(); !bytes.Contains(text, []byte(`"command":null`)) {
		t.Error("a missing command is not null")
	}
}

// prerelease is a policy of the prerelease form.
func prerelease() *Policy {
	p := minimal()
	p.APIVersion, p.FrameworkVersion, p.AllowHostNetwork = PrereleaseAPI, PrereleaseFramework, true
	return p
}

// TestPrereleaseForm compares with the template that confcom fills in for its prerelease option.
func TestPrereleaseForm(t *testing.T) {
	t.Parallel()
	text := string(prerelease().Text())
	_, end, _ := strings.Cut(text, "allow_capability_dropping := false\n")
	if want := "allow_host_network := true\n\nmount_device := data.framework.mount_device\n"; !strings.HasPrefix(end, want) {
		t.Errorf("after the last switch comes %q, want %q", end[:min(len(end), 80)], want)
	}
	const last = "rw_mount_device := data.framework.rw_mount_device\n" +
		"host_network := data.framework.host_network\n" +
		"load_transparency_trust_list := data.framework.load_transparency_trust_list\n" +
		"\nreason := {\"errors\": data.framework.errors}\n"
	if !strings.HasSuffix(text, last) {
		t.Errorf("the text does not end with %q", last)
	}
	for _, text := range [][]byte{prerelease().Text(), prerelease().PrettyText()} {
		again, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(prerelease().Text(), again.Text()); diff != "" {
			t.Error(diff)
		}
	}
	mixed := bytes.Replace(prerelease().Text(), []byte(PrereleaseAPI), []byte(DeployedAPI), 1)
	if _, err := Parse(mixed); err == nil {
		t.Error("lines of the prerelease form were accepted under the deployed version")
	}
}

// TestRoundTrip writes random policies and reads them again.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := minimal()
		c := &p.Containers[0]
		c.Name = rapid.String().Draw(t, "name")
		c.Command = rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "command")
		c.WorkingDir = rapid.String().Draw(t, "dir")
		c.Signals = rapid.SliceOf(rapid.IntRange(1, 64)).Draw(t, "signals")
		c.EnvRules = append(c.EnvRules, EnvRule{
			Name: rapid.String().Draw(t, "n"), NameStrategy: StrategyString, Value: rapid.String().Draw(t, "v"),
			ValueStrategy: StrategyRegexp, Required: rapid.Bool().Draw(t, "required"),
		})
		p.AllowDumpStacks = rapid.Bool().Draw(t, "dump")
		p.OmitRWMountDevice = rapid.Bool().Draw(t, "old")
		for _, text := range [][]byte{p.Text(), p.PrettyText()} {
			again, err := Parse(text)
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if !bytes.Equal(again.Text(), p.Text()) {
				t.Fatalf("read\n%s\nwrote\n%s", again.Text(), p.Text())
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(minimal().Text())
	f.Add(minimal().PrettyText())
	f.Add(prerelease().Text())
	f.Add([]byte(header + `api_version := "0.11.0"`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		trimmed := bytes.TrimRight(text, "\n")
		if plain := bytes.TrimRight(p.Text(), "\n"); !bytes.Equal(plain, trimmed) && !bytes.Equal(bytes.TrimRight(p.PrettyText(), "\n"), trimmed) {
			t.Errorf("accepted text is not what is written: %q", text)
		}
	})
}
