// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/etcdstore"
	"cofferdam.dev/internal/store/storetest"
)

// onBoth runs a test on both kinds of store.
func onBoth(t *testing.T, f func(t *testing.T, w *world)) {
	t.Run("bolt", func(t *testing.T) { t.Parallel(); f(t, newWorld(t, nil)) })
	t.Run("etcd", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("starts a server")
		}
		s, err := etcdstore.New(storetest.StartEtcd(t).Client(t), "vault/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		f(t, newWorldOn(t, s, nil))
	})
}

// TestLifecycle follows a key through its states.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		expect := func(what string, err error, code Code) {
			t.Helper()
			if codeOf(err) != code {
				t.Errorf("%s: %v, want %q", what, err, code)
			}
		}
		first, err := w.CreateKey(ctx, "Alpha", KeyRequest{Type: EC, Tags: map[string]string{"a": "b"}})
		expect("create", err, "")
		second, err := w.RotateKey(ctx, "alpha")
		expect("rotate", err, "")
		if first.Version == second.Version || second.Name != "Alpha" || second.Tags["a"] != "b" || cmp.Equal(first.Public, second.Public) {
			t.Errorf("rotated %+v to %+v", first, second)
		}
		got, err := w.Key(ctx, "ALPHA", "")
		expect("current", err, "")
		if diff := cmp.Diff(second, got); diff != "" {
			t.Error(diff)
		}
		got, err = w.Key(ctx, "alpha", first.Version)
		expect("by version", err, "")
		if diff := cmp.Diff(first, got); diff != "" {
			t.Error(diff)
		}
		w.clock.Advance(time.Hour)
		_, err = w.UpdateKey(ctx, "alpha", first.Version, KeyUpdate{Tags: map[string]string{"old": "yes"}, Operations: []Operation{Verify}})
		expect("update", err, "")
		page, next, err := w.KeyVersions(ctx, "alpha", "", 25)
		if err != nil || len(page) != 2 || next != "" {
			t.Errorf("versions: %v %q %v", page, next, err)
		}
		for _, k := range page {
			if old := k.Version == first.Version; (k.Tags["old"] == "yes") != old || k.Attributes.Updated.After(k.Attributes.Created) != old {
				t.Errorf("version %+v", k)
			}
		}
		gone, err := w.DeleteKey(ctx, "alpha")
		expect("delete", err, "")
		if gone.Deleted == nil || !gone.Deleted.Purge.Equal(gone.Deleted.At.AddDate(0, 0, 90)) {
			t.Errorf("deleted %+v", gone.Deleted)
		}
		_, err = w.Key(ctx, "alpha", "")
		expect("get a deleted one", err, KeyNotFound)
		_, err = w.CreateKey(ctx, "ALPHA", KeyRequest{Type: EC})
		expect("create over a deleted one", err, Conflict)
		_, err = w.DeleteKey(ctx, "alpha")
		expect("delete again", err, KeyNotFound)
		deletedKey, err := w.DeletedKey(ctx, "alpha")
		expect("get deleted", err, "")
		if deletedKey.Version != second.Version {
			t.Errorf("deleted %+v", deletedKey)
		}
		_, err = w.RecoverKey(ctx, "alpha")
		expect("recover", err, "")
		got, err = w.Key(ctx, "alpha", "")
		expect("get a recovered one", err, "")
		if diff := cmp.Diff(second, got); diff != "" {
			t.Error(diff)
		}
		expect("purge a live one", w.PurgeKey(ctx, "alpha"), KeyNotFound)
		_, err = w.DeleteKey(ctx, "alpha")
		expect("delete", err, "")
		expect("purge", w.PurgeKey(ctx, "alpha"), "")
		_, err = w.RecoverKey(ctx, "alpha")
		expect("recover a purged one", err, KeyNotFound)
		if left := w.entries(t, "vault/test/key/"); len(left) != 0 {
			t.Errorf("left in the store: %v", left)
		}
		_, err = w.CreateKey(ctx, "alpha", KeyRequest{Type: EC})
		expect("create anew", err, "")
		_, err = w.Key(ctx, "alpha", first.Version)
		expect("a version of the purged one", err, KeyNotFound)
	})
}

// entries are the names of what the store has below a prefix.
func (w *world) entries(t testing.TB, prefix string) []string {
	t.Helper()
	var out []string
	err := w.store.View(t.Context(), func(r store.Reader) error {
		out = nil
		list, err := r.List(prefix, "", store.MaxList)
		for _, e := range list {
			out = append(out, e.Key)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPages(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		ctx := t.Context()
		var want []string
		for i := range 7 {
			name := fmt.Sprintf("Name-%d", i)
			want = append(want, name)
			if _, err := w.SetSecret(ctx, name, SecretRequest{Value: seal.NewSecret([]byte("x"))}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.SetSecret(ctx, "name", SecretRequest{Value: seal.NewSecret([]byte("x"))}); err != nil {
			t.Fatal(err)
		}
		want = append([]string{"name"}, want...)
		var got []string
		for after := ""; ; {
			page, next, err := w.Secrets(ctx, after, 3)
			if err != nil || len(page) == 0 {
				t.Fatalf("%v, %v", page, err)
			}
			for _, s := range page {
				got = append(got, s.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for range 4 {
			if _, err := w.SetSecret(ctx, "name", SecretRequest{Value: seal.NewSecret([]byte("y"))}); err != nil {
				t.Fatal(err)
			}
		}
		var versions []string
		for after := ""; ; {
			page, next, err := w.SecretVersions(ctx, "name", after, 2)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range page {
				versions = append(versions, s.Version)
			}
			if after = next; after == "" {
				break
			}
		}
		if len(versions) != 5 || !slices.IsSorted(versions) {
			t.Errorf("versions %v", versions)
		}
		for _, limit := range []int{0, -1, MaxPage + 1} {
			if _, _, err := w.Keys(ctx, "", limit); codeOf(err) != BadParameter {
				t.Errorf("page of %d: %v", limit, err)
			}
		}
	})
}

// TestPolicyRules is the table of what exportability and policies permit.
func TestPolicyRules(t *testing.T) {
	t.Parallel()
	other := &ReleasePolicy{Data: []byte(strings.Replace(policyText, "attest.example", "other.example", 1))}
	policy := &ReleasePolicy{Data: []byte(policyText)}
	immutable := &ReleasePolicy{Data: []byte(policyText), Immutable: true}
	yes, no := AttributeChange{Exportable: ptr(true)}, AttributeChange{Exportable: ptr(false)}
	w := newWorld(t, nil)
	ctx := t.Context()
	create := func(name string, kind KeyType, a AttributeChange, p *ReleasePolicy) error {
		_, err := w.CreateKey(ctx, name, KeyRequest{Type: kind, Attributes: a, Policy: p})
		return err
	}
	update := func(name string, u KeyUpdate) error {
		_, err := w.UpdateKey(ctx, name, "", u)
		return err
	}
	for _, c := range []struct {
		what string
		err  error
		want error
	}{
		{"exportable without policy", create("a", ECHSM, yes, nil), ErrPolicyMissing},
		{"software", create("a", EC, yes, policy), ErrExportableSoftware},
		{"policy without exportable", create("a", ECHSM, AttributeChange{}, policy), ErrPolicyUnexpected},
		{"policy and not exportable", create("a", ECHSM, no, policy), ErrPolicyUnexpected},
		{"bad policy", create("a", ECHSM, yes, &ReleasePolicy{Data: []byte("{}")}), &Error{Code: BadParameter}},
		{"bad content type", create("a", ECHSM, yes, &ReleasePolicy{Data: []byte(policyText), ContentType: "text/plain"}), &Error{Code: BadParameter}},
		{"good", create("a", ECHSM, yes, policy), nil},
		{"another version under the same policy", create("a", ECHSM, yes, nil), nil},
		{"another policy with another version", create("a", ECHSM, yes, other), nil},
		{"a version that is not exportable", create("a", ECHSM, AttributeChange{}, nil), nil},
		{"policy over a current version that is not exportable", update("a", KeyUpdate{Policy: policy}), ErrPolicyUnexpected},
		{"exportable changed", update("a", KeyUpdate{Attributes: yes}), ErrExportableFixed},
		{"exportable again", create("a", ECHSM, yes, nil), nil},
		{"exportable changed back", update("a", KeyUpdate{Attributes: no}), ErrExportableFixed},
		{"exportable as it is", update("a", KeyUpdate{Attributes: yes}), nil},
		{"policy changed", update("a", KeyUpdate{Policy: policy}), nil},
		{"policy made immutable", update("a", KeyUpdate{Policy: immutable}), nil},
		{"immutable policy changed", update("a", KeyUpdate{Policy: other}), ErrPolicyImmutable},
		{"immutable policy set again", update("a", KeyUpdate{Policy: immutable}), ErrPolicyImmutable},
		{"immutable policy by a new version", create("a", ECHSM, yes, policy), ErrPolicyImmutable},
		{"new version under an immutable policy", create("a", ECHSM, yes, nil), nil},
		{"not exportable, no policy", create("b", EC, no, nil), nil},
	} {
		if c.want == nil && c.err != nil || c.want != nil && !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
	k, err := w.Key(ctx, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.UpdateKey(ctx, "a", k.Version, KeyUpdate{Policy: policy}); !errors.Is(err, ErrPolicyVersioned) {
		t.Errorf("policy of a version: %v", err)
	}
	want := strings.Replace(policyText, "attest.example/", "attest.example", 1)
	if !k.Policy.Immutable || string(k.Policy.Data) != want || k.Policy.ContentType != PolicyContentType {
		t.Errorf("the policy is %+v, %s", k.Policy, k.Policy.Data)
	}
	if _, err := w.DeleteKey(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RecoverKey(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if err := update("a", KeyUpdate{Policy: other}); !errors.Is(err, ErrPolicyImmutable) {
		t.Errorf("an immutable policy after recovery: %v", err)
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	many := map[string]string{}
	for i := range MaxTags + 1 {
		many[fmt.Sprint(i)] = ""
	}
	for what, c := range map[string]struct {
		name string
		r    KeyRequest
	}{
		"no type": {"a", KeyRequest{}}, "unknown type": {"a", KeyRequest{Type: "DSA"}}, "small": {"a", KeyRequest{Type: RSA, Bits: 1024}},
		"curve": {"a", KeyRequest{Type: EC, Curve: "P-224"}}, "oct": {"a", KeyRequest{Type: Oct, Bits: 129}}, "short oct": {"a", KeyRequest{Type: Oct, Bits: 64}},
		"no name": {"", KeyRequest{Type: EC}}, "slash": {"a/b", KeyRequest{Type: EC}}, "dot": {"a.b", KeyRequest{Type: EC}},
		"long name": {strings.Repeat("a", 128), KeyRequest{Type: EC}}, "newline": {"a\n", KeyRequest{Type: EC}},
		"operation": {"a", KeyRequest{Type: EC, Operations: []Operation{"fly"}}}, "twice": {"a", KeyRequest{Type: EC, Operations: []Operation{Sign, Sign}}},
		"tags": {"a", KeyRequest{Type: EC, Tags: many}}, "long tag": {"a", KeyRequest{Type: EC, Tags: map[string]string{"a": strings.Repeat("x", MaxTagSize+1)}}},
		"times": {"a", KeyRequest{Type: EC, Attributes: AttributeChange{NotBefore: ptr(w.clock.Now()), Expires: ptr(w.clock.Now())}}},
	} {
		if k, err := w.CreateKey(ctx, c.name, c.r); codeOf(err) != BadParameter {
			t.Errorf("%s: %+v, %v", what, k, err)
		}
	}
	for what, value := range map[string][]byte{"empty": nil, "large": make([]byte, MaxSecretSize+1)} {
		if _, err := w.SetSecret(ctx, "a", SecretRequest{Value: seal.NewSecret(value)}); codeOf(err) != BadParameter {
			t.Errorf("%s secret: %v", what, err)
		}
	}
	if left := w.entries(t, ""); len(left) != 0 {
		t.Errorf("left in the store: %v", left)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	w, g := releaseWorld(t, func(o *Options) { o.PurgeProtected, o.RecoverableDays = true, 7 })
	ctx := t.Context()
	if w.RecoveryLevel() != "CustomizedRecoverable" {
		t.Errorf("recovery level %s", w.RecoveryLevel())
	}
	makeKeys(t, w, map[string]KeyRequest{"a": exportable(), "b": {Type: EC}})
	out, err := w.Release(ctx, ReleaseRequest{Name: "a", Target: g.token(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	for range 60 { // more versions than one transaction takes
		if _, err := w.RotateKey(ctx, "b"); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b"} {
		if _, err := w.DeleteKey(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.PurgeKey(ctx, "a"); codeOf(err) != Protected {
		t.Errorf("purge of a protected key: %v", err)
	}
	w.clock.Advance(7*24*time.Hour - time.Second)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.RecoverKey(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Second)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeletedKey(ctx, "b"); codeOf(err) != KeyNotFound {
		t.Errorf("after its time: %v", err)
	}
	if left := w.entries(t, "vault/test/key/version/b"); len(left) != 0 {
		t.Errorf("%d versions are left", len(left))
	}
	if _, err := w.Explain(ctx, out.ID); err != nil {
		t.Error(err)
	}
	w.clock.Advance(decisionLife)
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Explain(ctx, out.ID); codeOf(err) != KeyNotFound {
		t.Errorf("an old decision: %v", err)
	}
	if _, err := w.Key(ctx, "a", ""); err != nil {
		t.Error(err)
	}
}

// TestPurgeInterrupted leaves a purge after its first step, as a crash would.
func TestPurgeInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	ctx := t.Context()
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}})
	if _, err := w.DeleteKey(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	err := w.store.Update(ctx, func(tx store.Tx) error {
		return errors.Join(tx.Delete("vault/test/key/deleted/a"), tx.Put("vault/test/key/purging/a", []byte("{}")))
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateKey(ctx, "a", KeyRequest{Type: EC}); codeOf(err) != Conflict {
		t.Errorf("during the purge: %v", err)
	}
	if err := w.Sweep(ctx); err != nil {
		t.Fatal(err)
	}
	if left := w.entries(t, "vault/test/key/"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	makeKeys(t, w, map[string]KeyRequest{"a": {Type: EC}})
}
