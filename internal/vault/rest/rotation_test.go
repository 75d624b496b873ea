// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/auth"
)

func action(kind, trigger, time string) object {
	return object{"action": object{"type": kind}, "trigger": object{trigger: time}}
}

// TestRotationPolicy sets a policy in the words of Azure Key Vault, and reads it back.
func TestRotationPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "POST", "/keys/k/create", object{"kty": "EC"})
	const byDefault = `{"id":"` + vaultURL + `/keys/k/rotationpolicy","lifetimeActions":[{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],"attributes":{}}`
	if a := w.must(t, "GET", "/keys/k/rotationpolicy", nil); strings.TrimSpace(a.body) != byDefault {
		t.Errorf("by default: %s", a.body)
	}
	body := object{
		"lifetimeActions": []object{action("rotate", "timeAfterCreate", "P18M"), action("Notify", "timeBeforeExpiry", "P30D")},
		"attributes":      object{"expiryTime": "P2Y", "created": 1, "updated": 2}, "id": "x",
	}
	set := w.must(t, "PUT", "/keys/k/rotationpolicy", body)
	got := w.must(t, "GET", "/keys/k/rotationpolicy", nil)
	if set.body != got.body {
		t.Errorf("set to %s, read as %s", set.body, got.body)
	}
	want := []string{"id", "lifetimeActions", "lifetimeActions.[].trigger", "lifetimeActions.[].trigger.timeAfterCreate", "lifetimeActions.[].action", "lifetimeActions.[].action.type",
		"lifetimeActions.[].trigger", "lifetimeActions.[].trigger.timeBeforeExpiry", "lifetimeActions.[].action", "lifetimeActions.[].action.type",
		"attributes", "attributes.expiryTime", "attributes.created", "attributes.updated"}
	if diff := cmp.Diff(want, keyOrder(t, got.body)); diff != "" {
		t.Errorf("members differ (-want +got):\n%s", diff)
	}
	if got.get("attributes.expiryTime") != "P2Y" || !strings.Contains(got.body, `{"type":"Rotate"}`) || got.get("attributes.created") == "1" {
		t.Errorf("%s", got.body)
	}
	for name, c := range map[string]struct {
		request string
		body    any
		status  int
		message string
	}{
		"an old version":      {"GET /keys/k/rotationpolicy?api-version=7.2", nil, 400, "7.3"},
		"no key":              {"GET /keys/x/rotationpolicy", nil, 404, ""},
		"set for no key":      {"PUT /keys/x/rotationpolicy", object{}, 404, ""},
		"no body":             {"PUT /keys/k/rotationpolicy", nil, 400, "no body"},
		"no period":           {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": []object{action("Rotate", "timeAfterCreate", "90 days")}}, 400, "lifetimeActions.trigger.timeAfterCreate of the body is not a period"},
		"a time of day":       {"PUT /keys/k/rotationpolicy", object{"attributes": object{"expiryTime": "P60DT1H"}}, 400, "attributes.expiryTime"},
		"no list":             {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": object{}}, 400, "list of objects"},
		"no objects":          {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": []string{"x"}}, 400, "list of objects"},
		"no action":           {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": []object{action("", "timeAfterCreate", "P90D")}}, 400, "Rotate or Notify"},
		"too many":            {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": make([]object, 9)}, 400, ""},
		"too soon":            {"PUT /keys/k/rotationpolicy", object{"lifetimeActions": []object{action("Rotate", "timeAfterCreate", "P6D")}}, 400, "P7D"},
		"another method":      {"POST /keys/k/rotationpolicy", object{}, 405, ""},
		"of a secret":         {"GET /secrets/k/rotationpolicy", nil, 404, ""},
		"a version of a name": {"GET /keys/k/rotationpolicy/x", nil, 404, ""},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		if a := w.send(t.Context(), "operator", method, path, c.body); a.status != c.status || !strings.Contains(a.get("error.message"), c.message) {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.body, c.status, c.message)
		}
	}
	w.tokens["reader"] = []auth.Role{"Key Vault Reader"}
	if a := w.send(t.Context(), "reader", "GET", "/keys/k/rotationpolicy", nil); a.status != http.StatusOK {
		t.Errorf("a reader: %d %s", a.status, a.body)
	}
	if a := w.send(t.Context(), "reader", "PUT", "/keys/k/rotationpolicy", body); a.status != http.StatusForbidden {
		t.Errorf("a reader sets it: %d %s", a.status, a.body)
	}
}

// TestBackupsOfObjects takes a key and a secret out of the vault and brings them back, for those who may.
func TestBackupsOfObjects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.tokens["user"] = []auth.Role{"Key Vault Crypto User"}
	w.tokens["one"] = []auth.Role{"Key Vault Crypto Officer/keys/restore"} // a key of that name
	w.must(t, "POST", "/keys/k/create", object{"kty": "EC"})
	w.must(t, "POST", "/keys/restore/create", object{"kty": "EC"})
	w.must(t, "PUT", "/secrets/s", object{"value": "hunter2"})
	for kind, name := range map[string]string{"keys": "k", "secrets": "s"} {
		a := w.must(t, "POST", "/"+kind+"/"+name+"/backup", nil)
		value := a.get("value")
		if value == "" || len(keyOrder(t, a.body)) != 1 {
			t.Fatalf("%s: %s", kind, a.body)
		}
		body := object{"value": value}
		if a := w.send(t.Context(), "operator", "POST", "/"+kind+"/restore", body); a.status != http.StatusConflict {
			t.Errorf("%s: over one that is there: %d %s", kind, a.status, a.body)
		}
		w.must(t, "DELETE", "/"+kind+"/"+name, nil)
		if a := w.send(t.Context(), "operator", "DELETE", "/deleted"+kind+"/"+name, nil); a.status != http.StatusNoContent {
			t.Fatalf("%s: %d %s", kind, a.status, a.body)
		}
		for _, who := range []string{"user", "one"} {
			if a := w.send(t.Context(), who, "POST", "/"+kind+"/restore", body); a.status != http.StatusForbidden {
				t.Errorf("%s: %s restores: %d %s", kind, who, a.status, a.body)
			}
		}
		w.must(t, "POST", "/"+kind+"/restore", body)
		w.must(t, "GET", "/"+kind+"/"+name, nil)
		for text, in := range map[string]any{"no member value": object{}, "no backup": object{"value": b64([]byte("{}"))}, "not base64url": object{"value": "!"}} {
			if a := w.send(t.Context(), "operator", "POST", "/"+kind+"/restore", in); a.status != http.StatusBadRequest || !strings.Contains(a.get("error.message"), text) {
				t.Errorf("%s, %s: %d %s", kind, text, a.status, a.body)
			}
		}
	}
	if a := w.send(t.Context(), "user", "POST", "/keys/k/backup", nil); a.status != http.StatusOK {
		t.Errorf("a user backs up: %d %s", a.status, a.body)
	}
	if a := w.send(t.Context(), "one", "GET", "/keys/restore", nil); a.status != http.StatusOK {
		t.Errorf("the key that is called so: %d %s", a.status, a.body)
	}
	if n := w.audited(t); n["key.restore allow"] != 2 || n["key.restore deny"] == 0 || n["key.backup allow"] != 2 {
		t.Errorf("audit log: %v", n)
	}
}
