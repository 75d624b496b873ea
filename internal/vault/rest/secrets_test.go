// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/vault"
)

func TestSecretLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	first := w.must(t, "PUT", "/secrets/s", object{"value": "über", "contentType": "text/plain", "tags": object{"a": "b"}})
	want := []string{
		"value", "contentType", "id", "attributes", "attributes.enabled", "attributes.created", "attributes.updated", "attributes.recoveryLevel",
		"attributes.recoverableDays", "tags", "tags.a",
	}
	if diff := cmp.Diff(want, keyOrder(t, first.body)); diff != "" {
		t.Error(diff)
	}
	if first.get("value") != "über" || !strings.HasPrefix(first.get("id"), vaultURL+"/secrets/s/") {
		t.Errorf("set: %s", first.body)
	}
	second := w.must(t, "PUT", "/secrets/s", object{"value": "two"})
	if a := w.must(t, "GET", "/secrets/s/", nil); a.body != second.body {
		t.Errorf("the current version is %s", a.body)
	}
	id := strings.TrimPrefix(first.get("id"), vaultURL)
	if a := w.must(t, "GET", id, nil); a.body != first.body {
		t.Errorf("the first version is %s", a.body)
	}
	a := w.must(t, "PATCH", id, object{"contentType": "x", "attributes": object{"enabled": false}})
	if a.get("contentType") != "x" || a.get("attributes.enabled") != "false" || a.get("value") != "" {
		t.Errorf("updated: %s", a.body)
	}
	if a := w.send(t.Context(), "operator", "GET", id, nil); a.status != 403 || a.inner() != "SecretDisabled" {
		t.Errorf("disabled: %d %s", a.status, a.body)
	}
	if a := w.must(t, "GET", "/secrets/s/versions", nil); !strings.Contains(a.body, first.get("id")) || strings.Contains(a.body, "two") {
		t.Errorf("versions: %s", a.body)
	}
	w.must(t, "DELETE", "/secrets/s", nil)
	if a := w.must(t, "GET", "/deletedsecrets/s", nil); a.get("recoveryId") != vaultURL+"/deletedsecrets/s" || a.get("value") != "" {
		t.Errorf("deleted: %s", a.body)
	}
	if a := w.must(t, "GET", "/deletedsecrets", nil); !strings.Contains(a.body, `"id":"`+vaultURL+`/secrets/s"`) {
		t.Errorf("the deleted secrets are %s", a.body)
	}
	w.must(t, "POST", "/deletedsecrets/s/recover", nil)
	w.must(t, "DELETE", "/secrets/s", nil)
	if a := w.send(t.Context(), "operator", "DELETE", "/deletedsecrets/s", nil); a.status != http.StatusNoContent {
		t.Errorf("purged: %d %s", a.status, a.body)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log has %s", w.log)
	}
}

func TestSecretErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	w.must(t, "PUT", "/secrets/s", object{"value": "v"})
	w.must(t, "PUT", "/secrets/gone", object{"value": "v"})
	w.must(t, "DELETE", "/secrets/gone", nil)
	version := strings.TrimPrefix(w.must(t, "GET", "/secrets/s", nil).get("id"), vaultURL+"/secrets/s/")
	for name, c := range map[string]struct {
		request string
		body    any
		status  int
		code    string
		message string
	}{
		"no body":             {"PUT /secrets/x", nil, 400, "BadParameter", "no body"},
		"no value":            {"PUT /secrets/x", object{}, 400, "BadParameter", "1 to"},
		"a number":            {"PUT /secrets/x", object{"value": 1}, 400, "BadParameter", "value of the body is not a string"},
		"too long":            {"PUT /secrets/x", object{"value": strings.Repeat("v", vault.MaxSecretSize+1)}, 400, "BadParameter", "1 to"},
		"a deleted name":      {"PUT /secrets/gone", object{"value": "v"}, 409, "Conflict", "deleted"},
		"a value in a patch":  {"PATCH /secrets/s", object{"value": "w"}, 400, "BadParameter", "new version"},
		"no policy":           {"PUT /secrets/x", object{"value": "v", "attributes": exportable}, 400, "BadParameter", "AKV.SKR.1004"},
		"policy of a version": {"PATCH /secrets/s/" + version, object{"release_policy": policy()}, 400, "BadParameter", "AKV.SKR.1016"},
		"old version":         {"PUT /secrets/x?api-version=7.0", object{"value": "v", "attributes": exportable, "release_policy": policy()}, 400, "BadParameter", "AKV.SKR.1001"},
		"not there":           {"GET /secrets/x", nil, 404, "SecretNotFound", "A secret with (name/id) x was not found"},
		"no such version":     {"GET /secrets/s/" + strings.Repeat("0", 32), nil, 404, "SecretNotFound", ""},
		"patch nothing":       {"PATCH /secrets/x", object{}, 404, "SecretNotFound", ""},
		"delete nothing":      {"DELETE /secrets/x", nil, 404, "SecretNotFound", ""},
		"recover what lives":  {"POST /deletedsecrets/s/recover", nil, 404, "SecretNotFound", ""},
		"purge what lives":    {"DELETE /deletedsecrets/s", nil, 404, "SecretNotFound", ""},
		"not exportable":      {"POST /secrets/s/release", object{"target": w.target(t, nil)}, 403, "Forbidden", "cannot be verified"},
		"a key's name":        {"GET /keys/s", nil, 404, "KeyNotFound", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(c.request, " ")
			a := w.send(t.Context(), "operator", method, path, c.body)
			if a.status != c.status || a.code() != c.code || !strings.Contains(a.get("error.message"), c.message) {
				t.Errorf("%d %s\nwant %d %s %s", a.status, a.body, c.status, c.code, c.message)
			}
		})
	}
}

func TestSecretRelease(t *testing.T) {
	t.Parallel()
	for _, managed := range []bool{false, true} {
		w := newWorld(t, setup{managed: managed})
		set := w.must(t, "PUT", "/secrets/s", object{"value": "the secret", "contentType": "text/plain", "attributes": exportable, "release_policy": policy()})
		a := w.must(t, "POST", "/secrets/s//release", object{"target": w.target(t, nil), "enc": "RSA_AES_KEY_WRAP_256", "nonce": "n"})
		payload := w.open(t, a)
		p := answer{body: payload}
		if p.get("request.kid") != vaultURL+"/secrets/s" || p.get("request.nonce") != "n" || p.get("response.secret.secret.id") != set.get("id") || strings.Contains(payload, "the secret") {
			t.Errorf("managed %v: %s", managed, payload)
		}
		if got := unwrap(t, payload, "response.secret.secret.value_hsm", "RSA_AES_KEY_WRAP_256"); string(got) != "the secret" {
			t.Errorf("managed %v: %q", managed, got)
		}
		a = w.send(t.Context(), "operator", "POST", "/secrets/s/release", object{"target": w.target(t, func(c object) { c["a"] = "x" })})
		if a.status != 403 || a.inner() != "AccessDenied" {
			t.Errorf("managed %v: %d %s", managed, a.status, a.body)
		}
	}
}

// TestSecretRoles tells those who may read secrets from those who may list them.
func TestSecretRoles(t *testing.T) {
	t.Parallel()
	requests := []string{"GET /secrets", "GET /secrets/s", "PUT /secrets/s", "PATCH /secrets/s", "POST /secrets/s/release", "DELETE /secrets/x", "DELETE /deletedsecrets/x"}
	for _, c := range []struct {
		managed bool
		role    auth.Role
		may     string
	}{
		{false, "Key Vault Administrator", "yyyyyyy"}, {false, "Key Vault Secrets Officer", "yyyynyy"}, {false, "Key Vault Secrets User", "yynnnnn"},
		{false, "Key Vault Secrets User/secrets/s", "nynnnnn"}, {false, "Key Vault Reader", "ynnnnnn"}, {false, "Key Vault Crypto Officer", "nnnnnnn"},
		{false, "Key Vault Crypto Service Release User", "nnnnynn"}, {false, "Key Vault Purge Operator", "nnnnnny"},
		{true, "Managed HSM Crypto User", "yyyynyn"}, {true, "Managed HSM Crypto Officer", "nnnnyny"}, {true, "Managed HSM Crypto Auditor", "nnnnnnn"},
	} {
		w := newWorld(t, setup{managed: c.managed})
		w.tokens["someone"] = []auth.Role{c.role}
		for i, request := range requests {
			method, path, _ := strings.Cut(request, " ")
			a := w.send(t.Context(), "someone", method, path, nil)
			if may := c.may[i] == 'y'; may == (a.status == 403) {
				t.Errorf("%s: %s: %d %s, may %v", c.role, request, a.status, a.body, may)
			}
		}
	}
}

func TestSecretPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("s%d", i)
		want = append(want, vaultURL+"/secrets/"+name)
		w.must(t, "PUT", "/secrets/"+name, object{"value": "v"})
	}
	if got := w.follow(t, "/secrets?api-version=7.4&maxresults=2", 2); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// TestBinarySecret has a secret that this protocol can not carry.
func TestBinarySecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	if _, err := w.vault.SetSecret(t.Context(), "s", vault.SecretRequest{Value: seal.NewSecret([]byte{0xff, 0xfe})}); err != nil {
		t.Fatal(err)
	}
	if a := w.send(t.Context(), "operator", "GET", "/secrets/s", nil); a.status != http.StatusConflict {
		t.Errorf("%d %q", a.status, a.body)
	}
}
