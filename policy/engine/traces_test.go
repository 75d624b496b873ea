// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/policy"

	"github.com/ulikunitz/xz"
)

// record is one line of the recorded decisions of Microsoft's enforcer.
type record struct {
	T                string         `json:"t"`
	ID               int            `json:"id"`
	V                *bool          `json:"v"`
	Code             string         `json:"code"`
	DefaultMounts    []policy.Mount `json:"defaultMounts"`
	PrivilegedMounts []policy.Mount `json:"privilegedMounts"`

	Point    string         `json:"point"`
	Input    map[string]any `json:"input"`
	Allowed  bool           `json:"allowed"`
	Result   recordedResult `json:"result"`
	Decision struct {
		Reason      any    `json:"reason"`
		PolicyError string `json:"policyError"`
	} `json:"decision"`

	Issuer    string `json:"issuer"`
	Feed      string `json:"feed"`
	SVN       any    `json:"svn"`
	Rego      string `json:"rego"`
	NReceipts int    `json:"nreceipts"`
}

type recordedResult struct {
	EnvList    *[]string           `json:"env_list"`
	CapsList   map[string][]string `json:"caps_list"`
	AllowStdio *bool               `json:"allow_stdio_access"`
}

func (r record) reasons() []string {
	if r.Decision.PolicyError != "" {
		return []string{r.Decision.PolicyError}
	}
	m, _ := r.Decision.Reason.(map[string]any)
	var out []string
	list, _ := m["errors"].([]any)
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func eachRecord(t testing.TB, f func(record)) {
	t.Helper()
	file, err := os.Open(testcap.Vectors(t, "policy-traces/traces.jsonl.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	z, err := xz.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(z)
	for dec.More() {
		var r record
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		f(r)
	}
}

// TestTraces replays every recorded decision: the same answer, the same kept variables and capabilities, the same
// reasons. Where reasons differ, the recorded enforcer is known to be wrong (see spurious), or gave none.
func TestTraces(t *testing.T) {
	t.Parallel()
	r := &replay{t: t, count: map[string]int{}}
	eachRecord(t, r.step)
	for what, want := range map[string]int{
		"decisions": 6272, "fragments": 43, "steps of fragments": 82, "steps of points that exist in tests only": 1,
		"denials": 118, "reasons identical": 106, "reasons where none were recorded": 3, "reasons recorded wrongly": 9,
	} {
		if r.count[what] != want {
			t.Errorf("%s: %d, want %d", what, r.count[what], want)
		}
	}
}

// spurious are reasons that the recorded enforcer adds to every denied exec_in_container: it looks for the user and
// the no-new-privileges flag in the list of allowed commands, where they never are, instead of in the container.
var spurious = []string{"invalid noNewPrivileges", "invalid user"}

// wrong says whether recorded reasons differ from ours only by spurious ones, and by the general text that ours gives
// besides the list of variables.
func wrong(point string, got, recorded []string) bool {
	without := func(list, remove []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(remove, s) })
	}
	general := []string{"invalid env list"}
	return point == string(PointExecInContainer) &&
		slices.Equal(without(got, slices.Concat(spurious, general)), without(recorded, slices.Concat(spurious, general)))
}

type replay struct {
	t         *testing.T
	engine    *Engine
	tx        *Tx
	code      string
	frag      *record // the fragment being loaded
	fragSteps []record
	count     map[string]int
}

func (r *replay) step(rec record) {
	ctx := context.Background()
	switch rec.T {
	case "policy":
		e, err := New([]byte(rec.Code), Options{
			DefaultMounts: rec.DefaultMounts, PrivilegedMounts: rec.PrivilegedMounts, MinimumAPI: "0.0.0",
		})
		if err != nil {
			r.t.Fatalf("policy %d: %v", rec.ID, err)
		}
		r.engine, r.tx, r.code = e, nil, rec.Code
	case "txbegin":
		tx, err := r.engine.Begin(ctx)
		if err != nil {
			r.t.Fatal(err)
		}
		r.tx = tx
	case "txend":
		if *rec.V {
			r.tx.Commit()
		}
		r.tx.Rollback()
		r.tx = nil
	case "frag":
		r.frag = &rec
		r.fragSteps = nil
	case "fragres":
		r.loadFragment(ctx, *r.frag, *rec.V)
		r.frag = nil
	case "step":
		if r.frag != nil {
			r.fragSteps = append(r.fragSteps, rec)
			return
		}
		r.decide(ctx, rec)
	}
}

// loadFragment makes the call that a fragment's recorded steps belong to.
func (r *replay) loadFragment(ctx context.Context, rec record, want bool) {
	f := Fragment{Issuer: rec.Issuer, Feed: rec.Feed, Text: []byte(rec.Rego)}
	if n, ok := rec.SVN.(float64); ok {
		svn := int64(n)
		f.SVN = &svn
	}
	if len(r.fragSteps) > 0 { // none: the text was refused before anybody was asked
		receipts, _ := r.fragSteps[0].Input["receipts"].([]any)
		for _, x := range receipts {
			m, _ := x.(map[string]any)
			subjects, _ := m["ttl_subjects"].([]any)
			receipt := Receipt{Issuer: fmt.Sprint(m["issuer"])}
			for _, s := range subjects {
				receipt.TTLSubjects = append(receipt.TTLSubjects, fmt.Sprint(s))
			}
			f.Receipts = append(f.Receipts, receipt)
		}
	}
	load := r.engine.LoadFragment
	if r.tx != nil {
		load = r.tx.LoadFragment
	}
	d, err := load(ctx, f)
	if err != nil {
		r.t.Errorf("fragment of policy %d: %v", rec.ID, err)
		return
	}
	r.count["fragments"]++
	r.count["steps of fragments"] += len(r.fragSteps)
	if d.Allowed != want {
		r.t.Errorf("fragment of policy %d: allowed = %v, recorded %v; reasons %q", rec.ID, d.Allowed, want, d.Reasons)
	} else if !want && len(r.fragSteps) > 0 {
		r.denied(r.fragSteps[len(r.fragSteps)-1], d)
	}
}

func (r *replay) decide(ctx context.Context, rec record) {
	// A point of the recorder's own, which exists nowhere else.
	if strings.HasPrefix(rec.Point, "__") {
		r.count["steps of points that exist in tests only"]++
		return
	}
	ask := r.engine.Decide
	if r.tx != nil {
		ask = r.tx.Decide
	}
	d, err := ask(ctx, Point(rec.Point), rec.Input)
	if err != nil {
		r.t.Errorf("policy %d: %s: %v", rec.ID, rec.Point, err)
		return
	}
	r.count["decisions"]++
	if d.Allowed != rec.Allowed {
		r.t.Errorf("policy %d: %s: allowed = %v, recorded %v; reasons %q, recorded %q", rec.ID, rec.Point, d.Allowed, rec.Allowed, d.Reasons, rec.reasons())
		return
	}
	if d.Allowed {
		r.kept(rec, d)
		return
	}
	r.denied(rec, d)
}

func (r *replay) denied(rec record, d Decision) {
	if len(d.Reasons) == 0 {
		r.t.Errorf("policy %d: %s: denial without a reason", rec.ID, rec.Point)
	}
	r.count["denials"]++
	want := rec.reasons()
	switch {
	case slices.Equal(d.Reasons, want):
		r.count["reasons identical"]++
	case len(want) == 0:
		r.count["reasons where none were recorded"]++
	case wrong(rec.Point, d.Reasons, want):
		r.count["reasons recorded wrongly"]++
	default:
		r.t.Errorf("policy %d: %s: reasons %q, recorded %q", rec.ID, rec.Point, d.Reasons, want)
	}
}

func (r *replay) kept(rec record, d Decision) {
	if rec.Result.EnvList != nil && !sameSet(d.EnvList, *rec.Result.EnvList) {
		r.t.Errorf("policy %d: %s: environment %q, recorded %q", rec.ID, rec.Point, d.EnvList, *rec.Result.EnvList)
	}
	if rec.Result.AllowStdio != nil && d.AllowStdio != *rec.Result.AllowStdio {
		r.t.Errorf("policy %d: %s: stdio = %v", rec.ID, rec.Point, d.AllowStdio)
	}
	if c := rec.Result.CapsList; c != nil {
		for name, got := range map[string][]string{
			"ambient": d.Capabilities.Ambient, "bounding": d.Capabilities.Bounding,
			"effective": d.Capabilities.Effective, "inheritable": d.Capabilities.Inheritable,
			"permitted": d.Capabilities.Permitted,
		} {
			if !sameSet(got, c[name]) {
				r.t.Errorf("policy %d: %s: %s capabilities %q, recorded %q", rec.ID, rec.Point, name, got, c[name])
			}
		}
	}
}

func sameSet(a, b []string) bool {
	x, y := slices.Clone(a), slices.Clone(b)
	slices.Sort(x)
	slices.Sort(y)
	return slices.Equal(slices.Compact(x), slices.Compact(y))
}
