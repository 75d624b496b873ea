// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/testcap"
)

// confcomSample is one entry of the index of policies that confcom made.
type confcomSample struct {
	Sample     string `json:"sample"`
	API        string `json:"api_version"`
	SVN        string `json:"default_fragment_minimum_svn"`
	Signals    []int  `json:"signals"`
	EnvOrder   string `json:"env_order"`
	SHA256     string `json:"sha256_policy"`
	Parameters string `json:"parameters"`
}

// flags are those that make the text of the sample's time.
func (s confcomSample) flags(dir string) []string {
	flags := []string{"--facts", filepath.Join(dir, "image-facts.json"), "--locked", "--infrastructure-svn", s.SVN}
	switch {
	case s.EnvOrder == "sorted":
		flags = append(flags, "--compat", "0.10.0-sorted-env")
	case s.API == "0.10.0":
		flags = append(flags, "--compat", "0.10.0")
	case len(s.Signals) == 0:
		flags = append(flags, "--compat", "0.11.0-no-signals")
	}
	if s.Parameters != "" {
		flags = append(flags, "--parameters", filepath.Join(dir, "aci", s.Parameters))
	}
	return flags
}

// cofferdam runs a command line in this process, in a home of its own.
func cofferdam(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() }) // it was read
		return f
	}
	p := console.Process{
		Args: append([]string{"--home", filepath.Join(dir, "home")}, args...), In: open("in"), Out: open("out"), Err: open("err"),
		LookupEnv: func(string) (string, bool) { return "", false }, Now: Current().Now,
	}
	code = Main(t.Context(), p)
	read := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return code, read(p.Out), read(p.Err)
}

func confcomSamples(t *testing.T) (string, []confcomSample) {
	t.Helper()
	dir := testcap.Vectors(t, "confcom")
	data, err := os.ReadFile(filepath.Join(dir, "aci", "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index []confcomSample
	if err := json.Unmarshal(data, &index); err != nil || len(index) == 0 {
		t.Fatalf("index: %v, %d samples", err, len(index))
	}
	return dir, index
}

// TestConfcomSamples makes every policy that confcom made, from the same files, byte for byte.
func TestConfcomSamples(t *testing.T) {
	t.Parallel()
	dir, index := confcomSamples(t)
	for _, s := range index {
		t.Run(s.Sample, func(t *testing.T) {
			t.Parallel()
			template := filepath.Join(dir, "aci", s.Sample, "arm_template.json")
			want, err := os.ReadFile(filepath.Join(dir, "aci", s.Sample, "policy.rego"))
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"policy", "generate", template}, s.flags(dir)...)
			code, text, stderr := cofferdam(t, args...)
			if diff := cmp.Diff(strings.TrimRight(string(want), "\n"), text); diff != "" || code != 0 {
				t.Fatalf("exit code %d: %s\n%s", code, stderr, diff)
			}
			code, hash, stderr := cofferdam(t, append(args, "--hash")...)
			if strings.TrimSpace(hash) != s.SHA256 || code != 0 {
				t.Errorf("exit code %d, hash %s, want %s: %s", code, hash, s.SHA256, stderr)
			}
			code, encoded, _ := cofferdam(t, append(args, "--format", "base64")...)
			decoded, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
			if string(decoded) != text || err != nil || code != 0 {
				t.Errorf("exit code %d, base64 is another text: %v", code, err)
			}
		})
	}
}

// TestConfcomSamplesWritten writes each policy into a copy of its template, and compares it with itself.
func TestConfcomSamplesWritten(t *testing.T) {
	t.Parallel()
	dir, index := confcomSamples(t)
	for _, s := range index {
		t.Run(s.Sample, func(t *testing.T) {
			t.Parallel()
			before, err := os.ReadFile(filepath.Join(dir, "aci", s.Sample, "arm_template.json"))
			if err != nil {
				t.Fatal(err)
			}
			template := filepath.Join(t.TempDir(), "template.json")
			if err := os.WriteFile(template, before, 0o600); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"policy", "generate", template}, s.flags(dir)...)
			code, out, stderr := cofferdam(t, append(args, "--write", "--yes")...)
			if strings.TrimSpace(out) != s.SHA256 || code != 0 {
				t.Fatalf("exit code %d, hash %q, want %s: %s", code, out, s.SHA256, stderr)
			}
			after, err := os.ReadFile(template)
			if err != nil {
				t.Fatal(err)
			}
			_, encoded, _ := cofferdam(t, append(args, "--format", "base64")...)
			value := []byte(strings.TrimSpace(encoded))
			if bytes.Count(after, value) != 1 {
				t.Fatal("the template does not hold the policy")
			}
			head, tail, _ := bytes.Cut(after, value)
			if !bytes.HasPrefix(before, head) || !bytes.HasSuffix(before, tail) {
				t.Error("something else of the template changed, too")
			}
			if code, out, stderr := cofferdam(t, append(args, "--diff")...); code != 0 || out != "" {
				t.Errorf("exit code %d: differs from itself: %s%s", code, out, stderr)
			}
			code, out, _ = cofferdam(t, append(args, "--diff", "--debug")...)
			if code != console.ExitRefused || !strings.Contains(out, "allow_dump_stacks") || !strings.Contains(out, "exec_processes") {
				t.Errorf("exit code %d: a debug policy differs in %q", code, out)
			}
		})
	}
}

// TestACIPolicyGen asks as for confcom and gets what confcom printed, to the last newline. Only samples of the current
// tool can be had that way.
func TestACIPolicyGen(t *testing.T) {
	t.Parallel()
	dir, index := confcomSamples(t)
	tried := 0
	for _, s := range index {
		if s.API != "0.11.0" || len(s.Signals) == 0 || s.SVN != "4" {
			continue
		}
		tried++
		want, err := os.ReadFile(filepath.Join(dir, "aci", s.Sample, "policy.rego"))
		if err != nil {
			t.Fatal(err)
		}
		args := []string{
			"policy", "acipolicygen", "-a", filepath.Join(dir, "aci", s.Sample, "arm_template.json"), "--facts", filepath.Join(dir, "image-facts.json"),
		}
		code, out, stderr := cofferdam(t, append(args, "--outraw")...)
		if diff := cmp.Diff(string(want), out); diff != "" || code != 0 {
			t.Errorf("%s: exit code %d: %s\n%s", s.Sample, code, stderr, diff)
		}
	}
	if tried == 0 {
		t.Error("no sample of the current tool")
	}
}
