// SPDX-License-Identifier: Apache-2.0

package reader_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec/reader"
	"cofferdam.dev/internal/testcap"

	"github.com/google/go-cmp/cmp"
)

// sample is one entry of the index of stored policies, with the era of confcom that made it.
type sample struct {
	Sample        string `json:"sample"`
	API           string `json:"api_version"`
	Framework     string `json:"framework_version"`
	SVN           string `json:"default_fragment_minimum_svn"`
	Signals       []int  `json:"signals"`
	EnvOrder      string `json:"env_order"`
	RWMountDevice bool   `json:"rw_mount_device"`
	SHA256        string `json:"sha256_policy"`
	Parameters    string `json:"parameters"`
}

func readFile(t *testing.T, path ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func decode(t *testing.T, data []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatal(err)
	}
}

func facts(t *testing.T, data []byte) map[string]policygen.ImageFacts {
	t.Helper()
	var file map[string]struct {
		Config policygen.ImageConfig
		Layers []string
	}
	decode(t, data, &file)
	out := map[string]policygen.ImageFacts{}
	for ref, f := range file {
		out[ref] = policygen.ImageFacts{Reference: ref, Config: f.Config, LayerRoots: f.Layers}
	}
	return out
}

// TestStoredPolicies reads each sample as a user gives it and compares the policy with the one that confcom made, byte
// for byte.
func TestStoredPolicies(t *testing.T) {
	t.Parallel()
	dir := testcap.Vectors(t, "confcom")
	var index []sample
	decode(t, readFile(t, dir, "aci", "index.json"), &index)
	images := facts(t, readFile(t, dir, "image-facts.json"))
	if len(index) < 10 {
		t.Fatalf("%d samples, expected 10", len(index))
	}
	for _, s := range index {
		t.Run(s.Sample, func(t *testing.T) {
			t.Parallel()
			o := reader.Options{}
			if s.Parameters != "" {
				o.ParameterFiles = []reader.Input{{Name: s.Parameters, Data: readFile(t, dir, "aci", s.Parameters)}}
			}
			template := reader.Input{Name: "arm_template.json", Data: readFile(t, dir, "aci", s.Sample, "arm_template.json")}
			groups, warnings, err := reader.Read(context.Background(), []reader.Input{template}, o)
			if err != nil || len(groups) != 1 || len(warnings) != 0 {
				t.Fatalf("%d groups, warnings %v, %v", len(groups), warnings, err)
			}
			p, err := policygen.Generate(groups[0], images, policygen.Options{
				APIVersion: s.API, FrameworkVersion: s.Framework, InfrastructureSVN: s.SVN,
				OmitSignals: len(s.Signals) == 0, OmitRWMountDevice: !s.RWMountDevice, SortEnv: s.EnvOrder == "sorted",
			})
			if err != nil {
				t.Fatal(err)
			}
			want := strings.TrimRight(string(readFile(t, dir, "aci", s.Sample, "policy.rego")), "\n")
			if diff := cmp.Diff(want, string(p.Text())); diff != "" {
				t.Error(diff)
			}
			if sum := sha256.Sum256(p.Text()); hex.EncodeToString(sum[:]) != s.SHA256 {
				t.Errorf("hash %x, want %s", sum, s.SHA256)
			}
		})
	}
}
