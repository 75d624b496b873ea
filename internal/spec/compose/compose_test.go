// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

func variables(list map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := list[name]; return v, ok }
}

func read(text string, o Options) (spec.Group, spec.Warnings, error) {
	docs, err := doc.ParseYAML([]byte(text))
	if err != nil {
		return spec.Group{}, nil, err
	}
	if len(docs) == 0 {
		return spec.Group{}, nil, nil
	}
	var w spec.Warnings
	g, err := Read(docs[0], o, &w)
	if err == nil {
		err = g.Validate()
	}
	return g, w, err
}

func TestGolden(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/app.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g, w, err := read(string(text), Options{
		Variable: variables(map[string]string{"TAG": "7", "INHERITED": "from outside"}),
		File:     files(map[string]string{"app.env": "# comment\nexport FILE=plain # note\nSINGLE='a $b \\n'\nDOUBLE=\"x\\ny\"\nMODE=slow\nNONE=\n"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(map[string]any{"group": g, "warnings": w}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/app.golden"
	if *update {
		if err := os.WriteFile(file, append(got, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
		t.Error(diff)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	service := func(keys string) string { return "services:\n  web:\n    image: i\n    " + keys + "\n" }
	for name, c := range map[string]struct{ text, want string }{
		"unknown key":          {service("init: true"), `$.services.web.init (line 4): key "init" is not supported`},
		"unknown top key":      {"include: [x]\n" + service(""), `key "include"`},
		"build":                {service("build: ."), "images are not built here"},
		"no image":             {"services: {web: {}}", "has no image"},
		"no services":          {"name: x", "there are no services"},
		"host directory":       {service("volumes: ['./x:/y']"), "directory of the host"},
		"bind":                 {service("volumes: [{type: bind, source: /x, target: /y}]"), "nothing of the host is mounted"},
		"undeclared volume":    {service("volumes: ['x:/y']"), `volume "x" is not declared`},
		"external volume":      {"volumes: {x: {external: true}}\n" + service(""), `key "external"`},
		"volume option":        {"volumes: {x: }\n" + service("volumes: ['x:/y:z']"), "only ro and rw"},
		"host network":         {service("network_mode: host"), "one network of its own"},
		"platform":             {service("platform: linux/arm64"), "only linux/amd64"},
		"profiles":             {service("profiles: [x]"), "profiles are not supported"},
		"boolean value":        {service("environment: {A: true}"), "put it in quotation marks"},
		"unset variable":       {service("user: $NOPE"), "variable NOPE is not set"},
		"unset with a message": {service("user: ${NOPE:?say who}"), "say who"},
		"lone dollar":          {service("user: 'a$'"), "a lone $"},
		"open brace":           {service("user: '${A'"), "not closed"},
		"inherited":            {service("environment: [NOPE]"), "NOPE has no value"},
		"missing file":         {service("env_file: x.env"), `file of variables "x.env": file does not exist`},
		"security option":      {service("security_opt: ['seccomp:unconfined']"), `"seccomp:unconfined" is not supported`},
		"empty command":        {service("command: []"), "could mean two things"},
		"nothing to start":     {service("entrypoint: []"), "what to start"},
		"port":                 {service("ports: ['80:http']"), `"http" is not a port`},
		"test":                 {service("healthcheck: {test: [x, y]}"), "a test is NONE"},
		"name":                 {"services:\n  a_b: {image: i}\n", "lower-case letters"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func TestInterpolation(t *testing.T) {
	t.Parallel()
	r := reader{options: Options{Variable: variables(map[string]string{"A": "a", "E": ""})}}
	for in, want := range map[string]string{
		"$A": "a", "${A}b": "ab", "$$A": "$A", "${N:-d}": "d", "${E:-d}": "d", "${E-d}": "", "${N-${A}}": "a", "${A:+alt}": "alt",
		"${E:+alt}": "", "${E+alt}": "alt", "${N+alt}": "", "${A:?x}": "a", "${E?x}": "", "": "", "${N:-${M:-}}": "",
	} {
		if got, err := r.interpolate(in, 0); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	deep := strings.Repeat("${N:-", 20) + strings.Repeat("}", 20)
	if _, err := r.interpolate(deep, 0); err == nil || !strings.Contains(err.Error(), "nested more than") {
		t.Errorf("error %v", err)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		got, err := r.interpolate(strings.ReplaceAll(s, "$", "$$"), 0)
		if err != nil || got != s {
			t.Fatalf("%q became %q, %v", s, got, err)
		}
	})
}

func TestEnvFileRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A": "line 1 is not NAME=VALUE", "\nA=s3cret$X": "dollar sign", `A="s3cret`: "not closed", `A="s3cret" x`: "follows", `A="\q"`: "not supported", "=x": "not NAME=VALUE",
	} {
		err := readEnvFile(text, &spec.Container{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: error %v, want one with %q", text, err, want)
		}
	}
}

// files are those that a description may name.
func files(list map[string]string) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		text, ok := list[name]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(text), nil
	}
}

func FuzzRead(f *testing.F) {
	if text, err := os.ReadFile("testdata/app.yaml"); err == nil {
		f.Add(text, "A=\"x\"")
	}
	f.Add([]byte("services: {a: {image: '${A:-i}', env_file: app.env}}"), "A=1")
	f.Fuzz(func(t *testing.T, data []byte, env string) {
		o := Options{File: files(map[string]string{"app.env": env}), Variable: variables(map[string]string{"A": "a", "TAG": env})}
		g1, _, err1 := read(string(data), o)
		g2, _, err2 := read(string(data), o)
		if diff := cmp.Diff(g1, g2); diff != "" || (err1 == nil) != (err2 == nil) {
			t.Errorf("%v %v %s", err1, err2, diff)
		}
	})
}
