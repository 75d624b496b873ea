// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"bufio"
	"context"
	"encoding/json"
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
	defer file.Close()
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

// TestTraces replays every recorded decision.
func TestTraces(t *testing.T) {
	r := &replay{t: t, count: map[string]int{}}
	eachRecord(t, r.step)
	t.Logf("%v", r.count)
}

type replay struct {
	t      *testing.T
	engine *Engine
	tx     *Tx
	code   string
	inFrag bool
	count  map[string]int
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
		r.inFrag = true
	case "fragres":
		r.inFrag = false
		r.count["fragments"]++
	case "step":
		r.decide(ctx, rec)
	}
}

func (r *replay) decide(ctx context.Context, rec record) {
	if r.inFrag || strings.HasPrefix(rec.Point, "__") || rec.Point == "load_transparency_trust_list" {
		r.count["skipped "+rec.Point]++
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
	r.count["replayed"]++
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
	r.count["denied"]++
	want := rec.reasons()
	switch {
	case slices.Equal(d.Reasons, want):
		r.count["reasons identical"]++
	case len(want) == 0:
		r.count["reasons given where none were recorded"]++
	default:
		r.count["reasons differ"]++
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
