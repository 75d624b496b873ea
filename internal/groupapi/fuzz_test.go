// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzDescribe reads any body: none ends the program, and what is kept of one holds no secure value, and is read as the same
// once more.
func FuzzDescribe(f *testing.F) {
	f.Add([]byte(resource("img", "exit 0")))
	f.Add([]byte(secretive("img", "aGk=")))
	f.Add([]byte(`{"location": "x", "Properties": {"containers": [{"name": "[a]", "properties": {"image": "[[b]"}}]}}`))
	a := &API{}
	id := resourceID{"sub", "rg", "web"}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, bad := a.describe(t.Context(), id, data)
		if bad != nil {
			if bad.status != 400 || bad.Code == "" || bad.Message == "" {
				t.Errorf("a refusal without a reason: %+v", bad)
			}
			return
		}
		kept, err := json.Marshal(d.resource)
		if err != nil {
			t.Fatal(err)
		}
		noSecrets(t, d.resource["properties"])
		first, err := essence(kept, "")
		if err != nil {
			t.Fatal(err)
		}
		again, bad := a.describe(t.Context(), id, kept)
		if bad != nil {
			if !d.secure {
				t.Errorf("what was kept can not be read: %v\n%s", bad, kept)
			}
			return
		}
		text, err := json.Marshal(again.resource)
		if err != nil {
			t.Fatal(err)
		}
		second, err := essence(text, "")
		if err != nil || !bytes.Equal(first, second) {
			t.Errorf("once more it is %s, not %s: %v", second, first, err)
		}
	})
}

func noSecrets(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			noSecrets(t, item)
		}
	case map[string]any:
		for key, item := range v {
			if slices.ContainsFunc(secretMembers, func(s string) bool { return strings.EqualFold(s, key) }) {
				t.Errorf("%s is kept", key)
			}
			noSecrets(t, item)
		}
	}
}
