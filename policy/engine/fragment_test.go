// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"os"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"
)

// fragmentPolicy lists one fragment and no container.
func fragmentPolicy() *policy.Policy {
	p := groupPolicy(0)
	p.Fragments = []policy.Fragment{{
		Issuer: "did:a", Feed: "feed", MinimumSVN: "2", Includes: []string{"containers"},
	}}
	return p
}

const fragmentText = "package part\nsvn := \"2\"\nframework_version := \"0.2.3\"\n"

func TestFragmentRefusals(t *testing.T) {
	t.Parallel()
	one := int64(1)
	good := Fragment{Issuer: "did:a", Feed: "feed", Text: []byte(fragmentText)}
	for name, c := range map[string]struct {
		change func(*Fragment)
		want   string
	}{
		"stranger":             {func(f *Fragment) { f.Issuer, f.Text = "did:b", []byte("package part\n!not Rego") }, "invalid fragment issuer"},
		"other feed":           {func(f *Fragment) { f.Feed = "x" }, "invalid fragment feed"},
		"old header":           {func(f *Fragment) { f.SVN = &one }, "fragment svn is below the specified minimum"},
		"old text":             {func(f *Fragment) { f.Text = []byte(strings.Replace(fragmentText, `"2"`, `"1"`, 1)) }, "fragment svn is below the specified minimum"},
		"no number":            {func(f *Fragment) { f.Text = []byte(strings.Replace(fragmentText, "svn := \"2\"\n", "", 1)) }, "missing fragment svn in either header or rego payload"},
		"number as version":    {func(f *Fragment) { f.Text = []byte(strings.Replace(fragmentText, `"2"`, `"2.0.0"`, 1)) }, "fragment svn and the specified minimum are different types"},
		"future":               {func(f *Fragment) { f.Text = []byte(strings.Replace(fragmentText, "0.2.3", "9.0.0", 1)) }, "fragment framework_version is ahead of the current version: 9.0.0 is greater than 0.5.0"},
		"no framework_version": {func(f *Fragment) { f.Text = []byte("package part\nsvn := \"2\"\n") }, "fragment framework_version is missing. Current version: 0.5.0"},
		"malformed":            {func(f *Fragment) { f.Text = append(f.Text, `containers := [{"env_rules": [{}]}]`...) }, "fragment has containers or external processes of an unexpected form"},
		"no package":           {func(f *Fragment) { f.Text = []byte("\n" + fragmentText) }, `fragment's first line is not "package NAME"`},
		"reserved":             {func(f *Fragment) { f.Text = []byte("package framework\n") }, `fragment's namespace "framework" is reserved`},
		"reads the policy":     {func(f *Fragment) { f.Text = append(f.Text, "x := data.policy.containers"...) }, "data.policy.containers, which is outside of it"},
		"reads the clock":      {func(f *Fragment) { f.Text = append(f.Text, "x := time.now_ns()"...) }, "undefined function time.now_ns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := mustLoad(t, fragmentPolicy())
			before := snapshot(e)
			f := good
			f.Text = append([]byte(nil), good.Text...)
			c.change(&f)
			d, err := e.LoadFragment(context.Background(), f)
			if err != nil || d.Allowed || !strings.Contains(strings.Join(d.Reasons, "\n"), c.want) {
				t.Errorf("%+v, %v; want %q", d, err, c.want)
			}
			if after := snapshot(e); after != before {
				t.Errorf("state changed: %s", after)
			}
		})
	}
}

// TestFragmentIsRolledBack loads a real fragment, of a framework older than most fields, in a unit that fails.
func TestFragmentIsRolledBack(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(testcap.Vectors(t, "fragments/infra.rego"))
	if err != nil {
		t.Fatal(err)
	}
	p := fragmentPolicy()
	p.Fragments[0].MinimumSVN = "1"
	e := mustLoad(t, p)
	ctx := context.Background()
	f := Fragment{Issuer: "did:a", Feed: "feed", Text: text}
	const layer = "37e9dcf799048b7d35ce53584e0984198e1bc3366c3bb5582fd97553d31beb4e"
	for _, keep := range []bool{false, true} {
		tx, err := e.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		d, err := tx.LoadFragment(ctx, f)
		mustAllow(t, d, err)
		d, err = tx.MountDevice(ctx, "/run/mounts/scsi/m1", layer)
		mustAllow(t, d, err)
		if keep {
			tx.Commit()
		}
		tx.Rollback()
		d, err = e.MountDevice(ctx, "/run/mounts/scsi/m2", layer)
		if err != nil || d.Allowed != keep {
			t.Errorf("after a unit that was kept = %v: %+v, %v", keep, d, err)
		}
	}
	// Loading it again adds nothing.
	before := snapshot(e)
	d, err := e.LoadFragment(ctx, f)
	mustAllow(t, d, err)
	if after := snapshot(e); after != before {
		t.Error("loading a fragment twice changed the state")
	}
}
