// SPDX-License-Identifier: Apache-2.0

package group

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func secretPlan(paths ...string) *Plan {
	p := testPlan("secret")
	v := spec.Volume{Name: "keys", Kind: spec.MountSecret}
	for _, path := range paths {
		v.Files = append(v.Files, spec.File{Path: path})
	}
	p.Volumes = []Volume{{Source: "sandbox:///tmp/atlas/secretsVolume/keys", Volume: v}}
	return p
}

func TestContentsCheck(t *testing.T) {
	t.Parallel()
	file := func(path, text string) spec.File { return spec.File{Path: path, Content: spec.Content(text)} }
	for name, c := range map[string]struct {
		plan     *Plan
		contents Contents
		want     string
		needed   bool
	}{
		"none needed":  {testPlan("x"), nil, "", false},
		"given":        {secretPlan("a", "b"), Contents{"keys": {file("b", "2"), file("a", "1")}}, "", false},
		"none given":   {secretPlan("a"), nil, "no content for a", true},
		"one missing":  {secretPlan("a", "b"), Contents{"keys": {file("a", "")}}, "no content for b", true},
		"another":      {secretPlan("a"), Contents{"keys": {file("a", ""), file("c", "")}}, "no file c", false},
		"too much":     {secretPlan("a"), Contents{"keys": {file("a", strings.Repeat("x", maxContents+1))}}, "limit is", false},
		"empty volume": {secretPlan(), Contents{}, "", false},
	} {
		err := c.contents.check(c.plan)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrContentsNeeded) != c.needed {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

// TestContentsFile writes contents to memory and reads them again, whatever they are; and nobody changes them there.
func TestContentsFile(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		p, c := secretPlan(), Contents{}
		for i := range rapid.IntRange(0, 4).Draw(rt, "files") {
			content := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "content")
			f := spec.File{Path: fmt.Sprintf("%d/%s", i, rapid.String().Draw(rt, "path")), Content: content, Mode: rapid.Uint32().Draw(rt, "mode")}
			c["keys"] = append(c["keys"], f)
		}
		f, err := c.file(p)
		if err != nil {
			rt.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err = f.WriteAt([]byte("x"), 0); err == nil {
			rt.Fatal("the file can be changed")
		}
		data, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if err != nil {
			rt.Fatal(err)
		}
		got, err := parseContents(data)
		if err != nil {
			rt.Fatal(err)
		}
		same := cmp.Comparer(func(a, b spec.Content) bool { return string(a) == string(b) })
		if d := cmp.Diff(c, got, same); d != "" {
			rt.Fatal(d)
		}
		got.Zero()
		for _, f := range got["keys"] {
			if strings.Trim(string(f.Content), "\x00") != "" {
				rt.Fatal("a content was not overwritten")
			}
		}
	})
}

func FuzzParseContents(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01v\x00\x00\x00\x01p\x00\x00\x01\xa4\x00\x00\x00\x01c"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseContents(data)
		total := 0
		for _, files := range c {
			for _, f := range files {
				total += len(f.Content) + len(f.Path)
			}
		}
		if err == nil && total > len(data) {
			t.Errorf("%d bytes became %d", len(data), total)
		}
	})
}

// TestReset prepares an ended group for another start, and leaves it as it was when that does not come about.
func TestReset(t *testing.T) {
	t.Parallel()
	s := testStore(t)
	c := create(t, s, "web")
	_, err := s.Reset("web")
	if !errors.Is(err, ErrRunning) { // its maker holds it
		t.Errorf("error is %v", err)
	}
	code := 3
	c.Record.Containers[0].ExitCode = &code
	Settle(c.Record, StateExited, "stopped", s.now())
	err = errors.Join(WriteRecord(c.Dir, c.Record), c.release())
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Reset("web")
	if err != nil {
		t.Fatal(err)
	}
	r := again.Record
	if r.State != StateCreated || r.Runs != 2 || r.ID != c.Record.ID || r.Finished != nil || r.Containers[0].ExitCode != nil || r.Containers[0].ID == c.Record.Containers[0].ID {
		t.Errorf("record is %+v", r)
	}
	plan, stored, err := Load(again.Dir)
	if err != nil || plan.Containers[0].ID != r.Containers[0].ID || stored.Runs != 2 {
		t.Errorf("plan and record say %s and %d runs, %v", plan.Containers[0].ID, stored.Runs, err)
	}
	err = again.Close()
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Lookup("web")
	if err != nil || g.Record.State != StateExited || g.Record.Reason != "stopped" || *g.Record.Containers[0].ExitCode != 3 {
		t.Errorf("group is %+v, %v", g, err)
	}
}

// TestGroupExitCode is the table of what a group ends with.
func TestGroupExitCode(t *testing.T) {
	t.Parallel()
	ended := func(code int) Container { return Container{ExitCode: &code} }
	init := func(c Container) Container { c.Init = true; return c }
	never := Container{}
	for name, c := range map[string]struct {
		containers []Container
		code       int
		ok         bool
	}{
		"good":                          {[]Container{ended(0), ended(0)}, 0, true},
		"the first that failed":         {[]Container{ended(0), ended(4), ended(5)}, 4, true},
		"one never ran":                 {[]Container{ended(0), never}, 0, false},
		"an init container failed":      {[]Container{init(ended(7)), never}, 7, true},
		"a sidecar was killed":          {[]Container{init(ended(137)), ended(0)}, 0, true},
		"a sidecar was, and one failed": {[]Container{init(ended(137)), ended(2)}, 2, true},
		"an init container never ran":   {[]Container{init(never), never}, 0, false},
		"stopped during init":           {[]Container{init(ended(0)), init(ended(143)), never}, 143, true},
	} {
		r := Record{State: StateExited, Containers: c.containers}
		code, ok := r.ExitCode()
		if code != c.code || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, code, ok, c.code, c.ok)
		}
		r.State = StateRunning
		if _, ok = r.ExitCode(); ok {
			t.Errorf("%s: a running group has an exit code", name)
		}
	}
}
