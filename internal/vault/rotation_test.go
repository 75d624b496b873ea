// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/audit"
)

const day = 24 * time.Hour

func TestPeriods(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Period{
		"P90D": {Days: 90}, "P1Y": {Years: 1}, "P18M": {Months: 18}, "P1Y2M3D": {1, 2, 3}, "P2W": {Days: 14}, "P1M1W1D": {Months: 1, Days: 8},
	} {
		if got, err := ParsePeriod(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "P", "P0D", "90D", "P1D1Y", "PT5M", "P1DT5M", "P-1D", "P1.5D", "p1d", "P99999Y", " P1D", "P1D\n", "P9999W99999D"} {
		if got, err := ParsePeriod(in); codeOf(err) != BadParameter {
			t.Errorf("%q was read as %+v, %v", in, got, err)
		}
	}
}

// TestPeriodRoundTrip reads back what is written.
func TestPeriodRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Period{rapid.IntRange(0, 9999).Draw(t, "y"), rapid.IntRange(0, 9999).Draw(t, "m"), rapid.IntRange(0, 99999).Draw(t, "d")}
		var got Period
		if err := got.UnmarshalText([]byte(p.String())); err != nil || got != p {
			t.Fatalf("%+v is written as %q, and read as %+v, %v", p, p, got, err)
		}
	})
}

func TestRotationPolicyRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	if _, err := w.CreateKey(t.Context(), "k", KeyRequest{Type: EC}); err != nil {
		t.Fatal(err)
	}
	after := func(d int) LifetimeAction { return LifetimeAction{Type: Rotate, AfterCreate: Period{Days: d}} }
	before := func(d int) LifetimeAction { return LifetimeAction{Type: Rotate, BeforeExpiry: Period{Days: d}} }
	tell := LifetimeAction{Type: Notify, BeforeExpiry: Period{Days: 30}}
	for name, c := range map[string]struct {
		p    RotationPolicy
		want Code
	}{
		"nothing":                 {RotationPolicy{}, ""},
		"after creation":          {RotationPolicy{Actions: []LifetimeAction{after(90)}}, ""},
		"both":                    {RotationPolicy{Actions: []LifetimeAction{before(30), tell}, Expiry: Period{Years: 1}}, ""},
		"tell of old versions":    {RotationPolicy{Actions: []LifetimeAction{tell}}, ""},
		"an expiry alone":         {RotationPolicy{Expiry: Period{Months: 1}}, ""},
		"a short expiry":          {RotationPolicy{Expiry: Period{Days: 27}}, BadParameter},
		"too often":               {RotationPolicy{Actions: []LifetimeAction{after(6)}}, BadParameter},
		"before no expiry":        {RotationPolicy{Actions: []LifetimeAction{before(30)}}, BadParameter},
		"after it has expired":    {RotationPolicy{Actions: []LifetimeAction{after(360)}, Expiry: Period{Years: 1}}, BadParameter},
		"as soon as it is made":   {RotationPolicy{Actions: []LifetimeAction{before(360)}, Expiry: Period{Years: 1}}, BadParameter},
		"twice":                   {RotationPolicy{Actions: []LifetimeAction{after(90), after(100)}}, BadParameter},
		"two times":               {RotationPolicy{Actions: []LifetimeAction{{Type: Rotate, AfterCreate: Period{Days: 90}, BeforeExpiry: Period{Days: 9}}}, Expiry: Period{Years: 1}}, BadParameter},
		"no time":                 {RotationPolicy{Actions: []LifetimeAction{{Type: Rotate}}}, BadParameter},
		"another action":          {RotationPolicy{Actions: []LifetimeAction{{Type: "Burn", AfterCreate: Period{Days: 90}}}}, BadParameter},
		"to tell after it is new": {RotationPolicy{Actions: []LifetimeAction{{Type: Notify, AfterCreate: Period{Days: 90}}}}, BadParameter},
	} {
		_, err := w.SetRotationPolicy(t.Context(), "k", c.p)
		if codeOf(err) != c.want {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
	if _, err := w.SetRotationPolicy(t.Context(), "absent", RotationPolicy{}); codeOf(err) != KeyNotFound {
		t.Errorf("a key that is not there: %v", err)
	}
}

// TestRotationByPolicy turns the clock, and sees when new versions are made, until when they are good, and of what is told.
func TestRotationByPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	policy := &ReleasePolicy{Data: []byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a.test","allOf":[{"claim":"x","equals":"y"}]}]}`)}
	if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: OctHSM, Bits: 192, Tags: map[string]string{"a": "b"}, Policy: policy, Attributes: AttributeChange{Exportable: ptr(true)}}); err != nil {
		t.Fatal(err)
	}
	p := RotationPolicy{Expiry: Period{Days: 60}, Actions: []LifetimeAction{{Type: Rotate, BeforeExpiry: Period{Days: 10}}, {Type: Notify, BeforeExpiry: Period{Days: 20}}}}
	if _, err := w.SetRotationPolicy(ctx, "k", p); err != nil {
		t.Fatal(err)
	}
	newest := func() *Key {
		t.Helper()
		if err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		k, err := w.Key(ctx, "k", "")
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := newest()
	w.clock.Advance(300 * day)
	if got := newest(); got.Version != first.Version {
		t.Error("a version that never expires was rotated before its end")
	}
	second, err := w.RotateKey(ctx, "k")
	if err != nil || second.Attributes.Expires == nil || !second.Attributes.Expires.Equal(w.clock.Now().Add(60*day)) {
		t.Fatalf("by hand: %+v, %v", second, err)
	}
	w.clock.Advance(49 * day)
	for range 3 {
		if got := newest(); got.Version != second.Version {
			t.Error("it was rotated too early")
		}
	}
	if n := w.count(t, "key.notify"); n != 1 {
		t.Errorf("that it nears its end was told %d times", n)
	}
	w.clock.Advance(2 * day)
	third := newest()
	if third.Version == second.Version || third.Type != OctHSM || third.Bits != 192 || !third.Attributes.Exportable || third.Policy == nil || third.Tags["a"] != "b" ||
		!third.Attributes.Expires.Equal(w.clock.Now().Add(60*day)) {
		t.Errorf("the third version is %+v", third)
	}
	if got := newest(); got.Version != third.Version {
		t.Error("it was rotated again at once")
	}
	// A disabled key stays as it is, however late it is.
	if _, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(false)}}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(500 * day)
	if got := newest(); got.Version != third.Version {
		t.Error("a disabled key was rotated")
	}
	if n := w.count(t, "key.autorotate"); n != 1 {
		t.Errorf("rotations by policy in the audit log: %d, want 1", n)
	}
}

// TestRotationOfWhatIsGone has a key disabled, or purged, between the moment it is read and the one it is rotated: it is not
// put into use again, nor is there a new one.
func TestRotationOfWhatIsGone(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, change := range map[string]func(w *world) error{
		"disabled": func(w *world) error {
			_, err := w.UpdateKey(ctx, "k", "", KeyUpdate{Attributes: AttributeChange{Enabled: ptr(false)}})
			return err
		},
		"purged": func(w *world) error {
			_, err := w.DeleteKey(ctx, "k")
			return errors.Join(err, w.PurgeKey(ctx, "k"))
		},
	} {
		w := newWorld(t, nil)
		was, err := w.CreateKey(ctx, "k", KeyRequest{Type: EC})
		if err == nil {
			err = change(w)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, still := range []bool{false, true} {
			if _, err := w.rotate(ctx, "key.rotate", was, still); codeOf(err) != Conflict {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestRotationAfterCreation rotates a key of which nothing else is said, again and again, but once however many instances do it.
func TestRotationAfterCreation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: EC}); err != nil {
		t.Fatal(err)
	}
	got, err := w.RotationPolicy(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultRotation(), got); diff != "" {
		t.Errorf("the policy of a new key (-want +got):\n%s", diff)
	}
	if _, err := w.SetRotationPolicy(ctx, "k", RotationPolicy{Actions: []LifetimeAction{{Type: Rotate, AfterCreate: Period{Days: 7}}}}); err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 5; n++ {
		w.clock.Advance(7 * day)
		stale, _, err := w.list(ctx, keys, live, "", MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if err := w.rotateDue(ctx, stale[0]); err != nil { // another instance, which has read before
			t.Error(err)
		}
		list, _, err := w.KeyVersions(ctx, "k", "", MaxPage)
		if err != nil || len(list) != n {
			t.Errorf("%d versions, %v; want %d", len(list), err, n)
		}
	}
	// A new policy keeps when the first one was made.
	was, err := w.RotationPolicy(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Hour)
	is, err := w.SetRotationPolicy(ctx, "k", RotationPolicy{})
	if err != nil || !is.Created.Equal(was.Created) || !is.Updated.After(was.Updated) {
		t.Errorf("the policy is %+v, %v; it was %+v", is, err, was)
	}
	w.clock.Advance(100 * day)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if list, _, err := w.KeyVersions(ctx, "k", "", MaxPage); err != nil || len(list) != 4 {
		t.Errorf("%d versions, %v: it was rotated without a rule", len(list), err)
	}
}

// TestEndIsTold tells once of a key without a policy that it nears its end, and that it has got no policy by that.
func TestEndIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	end := w.clock.Now().Add(40 * day)
	if _, err := w.CreateKey(ctx, "k", KeyRequest{Type: EC, Attributes: AttributeChange{Expires: &end}}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{0, 1, 1, 1} {
		if err := w.Sweep(ctx); err != nil {
			t.Fatal(err)
		}
		if n := w.count(t, "key.notify"); n != want {
			t.Errorf("after %d days it was told %d times, want %d", 11*i, n, want)
		}
		w.clock.Advance(11 * day)
	}
	got, err := w.RotationPolicy(ctx, "k")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaultRotation(), got); diff != "" {
		t.Errorf("the policy (-want +got):\n%s", diff)
	}
	set, err := w.SetRotationPolicy(ctx, "k", RotationPolicy{})
	if err != nil || set.Created.IsZero() {
		t.Errorf("the first policy that was set: %+v, %v", set, err)
	}
}

// count returns how often something of a kind was recorded.
func (w *world) count(t *testing.T, kind string) int {
	t.Helper()
	files, err := audit.Files(w.audit)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if !strings.HasSuffix(line, "\n") {
				continue // it is being written
			}
			var e struct {
				Kind string `json:"kind"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind == kind {
				n++
			}
		}
	}
	return n
}
