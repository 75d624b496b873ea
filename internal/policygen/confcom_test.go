// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"

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

// template is as much of an ARM template as the samples use.
type template struct {
	Parameters map[string]struct{ Value, DefaultValue string }
	Resources  []struct {
		Properties struct {
			Containers []struct {
				Name       string
				Properties templateContainer
			}
			Volumes []map[string]json.RawMessage
		}
	}
}

type templateContainer struct {
	Image                string
	Command              []string
	EnvironmentVariables []spec.EnvVar
	LivenessProbe        probe
	ReadinessProbe       probe
	VolumeMounts         []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	SecurityContext struct {
		RunAsUser    *int64
		Capabilities struct{ Add, Drop []string }
	}
}

type probe struct{ Exec struct{ Command []string } }

// TestStoredPolicies generates each sample and compares it with what confcom made, byte for byte.
func TestStoredPolicies(t *testing.T) {
	t.Parallel()
	dir := testcap.Vectors(t, "confcom")
	var index []sample
	readJSON(t, filepath.Join(dir, "aci", "index.json"), &index)
	facts := readFacts(t, filepath.Join(dir, "image-facts.json"))
	for _, s := range index {
		t.Run(s.Sample, func(t *testing.T) {
			t.Parallel()
			g := readTemplate(t, filepath.Join(dir, "aci"), s)
			p, err := Generate(g, facts, Options{
				APIVersion: s.API, FrameworkVersion: s.Framework, InfrastructureSVN: s.SVN,
				OmitSignals: len(s.Signals) == 0, OmitRWMountDevice: !s.RWMountDevice, SortEnv: s.EnvOrder == "sorted",
			})
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join(dir, "aci", s.Sample, "policy.rego"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.TrimRight(string(want), "\n"), string(p.Text())); diff != "" {
				t.Error(diff)
			}
			if sum := sha256.Sum256(p.Text()); hex.EncodeToString(sum[:]) != s.SHA256 {
				t.Errorf("hash %x, want %s", sum, s.SHA256)
			}
		})
	}
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readFacts(t *testing.T, path string) map[string]ImageFacts {
	t.Helper()
	var file map[string]struct {
		Config ImageConfig
		Layers []string
	}
	readJSON(t, path, &file)
	facts := map[string]ImageFacts{}
	for ref, f := range file {
		facts[ref] = ImageFacts{Reference: ref, Config: f.Config, LayerRoots: f.Layers}
	}
	return facts
}

func readTemplate(t *testing.T, dir string, s sample) spec.Group {
	t.Helper()
	var tm template
	readJSON(t, filepath.Join(dir, s.Sample, "arm_template.json"), &tm)
	values := map[string]string{}
	for name, p := range tm.Parameters {
		values[name] = firstSet(p.Value, p.DefaultValue)
	}
	if s.Parameters != "" {
		var file template
		readJSON(t, filepath.Join(dir, s.Parameters), &file)
		for name, p := range file.Parameters {
			values[name] = p.Value
		}
	}
	var g spec.Group
	properties := tm.Resources[0].Properties
	for _, c := range properties.Containers {
		g.Containers = append(g.Containers, c.Properties.read(t, c.Name, values, properties.Volumes))
	}
	return g
}

func (c templateContainer) read(t *testing.T, name string, values map[string]string, volumes []map[string]json.RawMessage) spec.Container {
	t.Helper()
	if inner, ok := strings.CutPrefix(c.Image, "[parameters('"); ok {
		c.Image = values[strings.TrimSuffix(inner, "')]")]
	}
	out := spec.Container{
		Name: name, Image: c.Image, Command: c.Command, Env: c.EnvironmentVariables, AllowStdio: true,
		AllowPrivilegeEscalation: true, RunAsUser: c.SecurityContext.RunAsUser,
		AddCapabilities: c.SecurityContext.Capabilities.Add, DropCapabilities: c.SecurityContext.Capabilities.Drop,
	}
	for _, p := range []probe{c.LivenessProbe, c.ReadinessProbe} {
		if len(p.Exec.Command) > 0 {
			out.AllowExec = append(out.AllowExec, p.Exec.Command)
		}
	}
	for _, m := range c.VolumeMounts {
		for _, v := range volumes {
			if string(v["name"]) == `"`+m.Name+`"` && v["azureFile"] != nil {
				out.Mounts = append(out.Mounts, spec.Mount{Kind: spec.MountAzureFile, Path: m.MountPath, ReadOnly: m.ReadOnly})
			}
		}
	}
	return out
}

// TestParse makes sure that what is generated is what policy.Parse reads.
func TestParse(t *testing.T) {
	t.Parallel()
	p, err := Generate(webGroup(), webFacts(), RunOptions())
	if err != nil {
		t.Fatal(err)
	}
	again, err := policy.Parse(p.Text())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(p.Text()), string(again.Text())); diff != "" {
		t.Error(diff)
	}
}
