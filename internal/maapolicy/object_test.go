// SPDX-License-Identifier: Apache-2.0

package maapolicy_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/maapolicy"
)

func TestClaimsOf(t *testing.T) {
	t.Parallel()
	got, err := maapolicy.ClaimsOf(map[string]any{
		"text": "a", "yes": true, "n": int64(3), "number": json.Number("4"), "fraction": json.Number("1.5"), "none": nil,
		"set": []any{"x", json.Number("1"), false}, "texts": []string{"p", "q"}, "nested": []any{[]any{}}, "empty": []any{},
		"object": map[string]any{"k": "v"}, "raw": json.RawMessage(`{"a":1}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []maapolicy.Claim{
		service("empty", text("[]")), service("fraction", text("1.5")), service("n", number(3)), service("nested", text("[[]]")),
		service("number", number(4)), service("object", text(`{"k":"v"}`)), service("raw", text(`{"a":1}`)),
		service("set", text("x")), service("set", number(1)), service("set", truth(false)), service("text", text("a")),
		service("texts", text("p")), service("texts", text("q")), service("yes", truth(true)),
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(maapolicy.Value{})); diff != "" {
		t.Error(diff)
	}
	if _, err := maapolicy.ClaimsOf(map[string]any{"bad": make(chan int)}); err == nil {
		t.Error("what is no JSON became a claim")
	}
}
