// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"strings"
	"testing"

	"cofferdam.dev/policy"
)

// parametric is a fragment of one container, whose last argument is a parameter.
func parametric(t *testing.T, declaration string) []byte {
	t.Helper()
	c := testContainer(0)
	c.Command = []string{"/bin/server", "MODE"}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return []byte("package part\nsvn := \"2\"\nframework_version := \"0.5.0\"\n" + declaration +
		"\ncontainers := [" + strings.Replace(string(text), `"MODE"`, `parameter("mode")`, 1) + "]\n")
}

// TestParameters loads one fragment under listings with different parameters. Each listing brings a container of its own.
func TestParameters(t *testing.T) {
	t.Parallel()
	const declared = `parameters_api := {"mode": {"default": "test"}}`
	for name, c := range map[string]struct {
		declaration string
		listings    []string // the parameters of each listing; "" for none
		admits      []string // of prod, dev, test
	}{
		"default":            {declared, []string{""}, []string{"test"}},
		"given":              {declared, []string{`{"mode": "prod"}`}, []string{"prod"}},
		"two listings":       {declared, []string{`{"mode": "prod"}`, `{"mode": "dev"}`}, []string{"prod", "dev"}},
		"given and default":  {declared, []string{`{"mode": "prod"}`, ""}, []string{"prod"}}, // as hcsshim has it
		"the same twice":     {declared, []string{`{"mode": "prod"}`, `{"mode": "prod"}`}, []string{"prod"}},
		"another's name":     {declared, []string{`{"other": "prod"}`}, []string{"test"}},
		"undeclared":         {`parameters_api := {"other": {"default": "test"}}`, []string{`{"mode": "prod"}`}, []string{"prod"}},
		"nothing declared":   {"", []string{`{"mode": "prod"}`}, []string{"prod"}},
		"nothing at all":     {"", []string{""}, nil},
		"own function":       {`parameter(x) = "prod" { true }`, []string{`{"mode": "dev"}`}, nil},
		"without a default":  {`parameters_api := {"mode": {}}`, []string{""}, nil},
		"given, no default":  {`parameters_api := {"mode": {}}`, []string{`{"mode": "dev"}`}, []string{"dev"}},
		"no text":            {declared, []string{`{"mode": 7}`}, nil},
		"a part of the text": {declared, []string{`{"mode": "prod\"], \"x"}`}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := fragmentPolicy()
			p.APIVersion, p.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
			text := string(p.Text())
			i, j := strings.Index(text, "fragments := ["), strings.Index(text, "containers := ")
			var list []string
			for _, parameters := range c.listings {
				l := `{"issuer": "did:a", "feed": "feed", "minimum_svn": "2", "includes": ["containers"]`
				if parameters != "" {
					l += `, "parameters": ` + parameters
				}
				list = append(list, l+"}")
			}
			text = text[:i] + "fragments := [" + strings.Join(list, ", ") + "]\n" + text[j:]
			for _, mode := range []string{"prod", "dev", "test"} {
				e, err := New([]byte(text), Options{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = e.LoadFragment(t.Context(), Fragment{Issuer: "did:a", Feed: "feed", Text: parametric(t, c.declaration)})
				if err != nil {
					t.Fatal(err) // a denial is well: then nothing is admitted
				}
				if got, want := runs(t, e, mode), strings.Contains(" "+strings.Join(c.admits, " ")+" ", " "+mode+" "); got != want {
					t.Errorf("%s is admitted: %v, want %v", mode, got, want)
				}
			}
		})
	}
}

// TestOldListings has a policy from before parameters: its listing without any stands for the defaults beside another.
func TestOldListings(t *testing.T) {
	t.Parallel()
	p := fragmentPolicy()
	p.FrameworkVersion = "0.4.1"
	text := strings.Replace(string(p.Text()), `"minimum_svn": "2"`, `"minimum_svn": "2", "parameters": {"mode": "prod"}`, 1)
	const listing = `fragments := [ {"issuer": "did:a", "feed": "feed", "minimum_svn": "2", "includes": ["containers"]},`
	text = strings.Replace(text, "fragments := [", listing, 1)
	for mode, want := range map[string]bool{"prod": true, "test": true, "dev": false} {
		e, err := New([]byte(text), Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := Fragment{Issuer: "did:a", Feed: "feed", Text: parametric(t, `parameters_api := {"mode": {"default": "test"}}`)}
		d, err := e.LoadFragment(t.Context(), f)
		mustAllow(t, d, err)
		if got := runs(t, e, mode); got != want {
			t.Errorf("%s is admitted: %v, want %v", mode, got, want)
		}
	}
}

// runs says whether a container with an argument is admitted, from its layers on.
func runs(t *testing.T, e *Engine, argument string) bool {
	t.Helper()
	var paths []string
	for i, hash := range testContainer(0).Layers {
		path := "/run/mounts/scsi/m" + string(rune('0'+i))
		d, err := e.MountDevice(t.Context(), path, hash)
		if err != nil {
			t.Fatal(err)
		}
		if !d.Allowed {
			return false
		}
		paths = append([]string{path}, paths...)
	}
	in := testCreate(testID2(0), 0)
	in.Args = []string{"/bin/server", argument}
	d, err := e.MountOverlay(t.Context(), in.ContainerID, paths, "/run/gcs/c/"+in.ContainerID+"/rootfs")
	if err == nil && d.Allowed {
		d, err = e.CreateContainer(t.Context(), in)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d.Allowed
}

// TestFragmentPlatformRules loads a fragment that adds a variable to every container, if the policy includes that.
func TestFragmentPlatformRules(t *testing.T) {
	t.Parallel()
	const text = "package part\nsvn := \"2\"\nframework_version := \"0.5.0\"\n" +
		`platform_rules := [{"env_rules": [{"pattern": "ZONE=.+", "strategy": "re2", "required": false}], "mounts": []}]` + "\n"
	for name, c := range map[string]struct {
		includes []string
		text     string
		want     bool
	}{
		"included":     {[]string{"platform_rules"}, text, true},
		"not included": {[]string{"containers", "fragments"}, text, false},
		"older":        {[]string{"platform_rules"}, strings.Replace(text, "0.5.0", "0.4.1", 1), false},
	} {
		p := groupPolicy(1)
		p.APIVersion, p.FrameworkVersion = policy.PrereleaseAPI, policy.PrereleaseFramework
		p.AllowEnvironmentVariableDropping = false
		p.Fragments = []policy.Fragment{{Issuer: "did:a", Feed: "feed", MinimumSVN: "2", Includes: c.includes}}
		e := mustLoad(t, p)
		d, err := e.LoadFragment(t.Context(), Fragment{Issuer: "did:a", Feed: "feed", Text: []byte(c.text)})
		mustAllow(t, d, err)
		mountAll(t, e, 0)
		in := testCreate(testID2(0), 0)
		in.Env = append(in.Env, "ZONE=north")
		d, err = e.CreateContainer(t.Context(), in)
		if err != nil || d.Allowed != c.want {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}
