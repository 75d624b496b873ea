// SPDX-License-Identifier: Apache-2.0

package rest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// policyText is a release policy in the form in which both kinds of vault leave it apart from its order.
const policyText = `{"version":"1.0.0","anyOf":[{"authority":"https://attest.example","allOf":[{"claim":"a","equals":"b"}]}]}`

func policy() object { return object{"data": b64([]byte(policyText))} }

// TestKeyErrors is the table of what requests for keys are refused with.
func TestKeyErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	exportable := object{"exportable": true}
	w.must(t, "POST", "/keys/plain/create", object{"kty": "EC"})
	w.must(t, "POST", "/keys/fixed/create", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": object{"data": policy()["data"], "immutable": true}})
	w.must(t, "POST", "/keys/gone/create", object{"kty": "EC"})
	w.must(t, "DELETE", "/keys/gone", nil)
	version := strings.TrimPrefix(w.must(t, "GET", "/keys/fixed", nil).get("key.kid"), vaultURL+"/keys/fixed/")
	skr := func(n int, text string) string { return fmt.Sprintf("AKV.SKR.%d: %s", n, text) }
	for name, c := range map[string]struct {
		request string
		body    any
		status  int
		code    string
		message string // whole when it begins with AKV, else a part
	}{
		"no body":                {"POST /keys/k/create", nil, 400, "BadParameter", "no body"},
		"no JSON":                {"POST /keys/k/create", "kty=RSA", 400, "BadParameter", "JSON object"},
		"a list":                 {"POST /keys/k/create", "[]", 400, "BadParameter", "JSON object"},
		"a member twice":         {"POST /keys/k/create", `{"kty":"RSA","kty":"EC"}`, 400, "BadParameter", "JSON object"},
		"twice by case":          {"POST /keys/k/create", `{"kty":"RSA","KTY":"EC"}`, 400, "BadParameter", "JSON object"},
		"a number for a text":    {"POST /keys/k/create", `{"kty":1}`, 400, "BadParameter", "kty of the body is not a string"},
		"a text for a number":    {"POST /keys/k/create", `{"kty":"RSA","key_size":"2048"}`, 400, "BadParameter", "key_size of the body is not a whole number"},
		"a text for an object":   {"POST /keys/k/create", `{"kty":"RSA","attributes":"x"}`, 400, "BadParameter", "attributes of the body is not an object"},
		"a text for a boolean":   {"POST /keys/k/create", `{"kty":"RSA","attributes":{"enabled":"yes"}}`, 400, "BadParameter", "attributes.enabled of the body is not true or false"},
		"a time before 1970":     {"POST /keys/k/create", `{"kty":"RSA","attributes":{"exp":-1}}`, 400, "BadParameter", "attributes.exp"},
		"tags that are none":     {"POST /keys/k/create", `{"kty":"RSA","tags":{"a":1}}`, 400, "BadParameter", "tags of the body"},
		"no type":                {"POST /keys/k/create", object{}, 400, "BadParameter", "type of a key"},
		"an unknown type":        {"POST /keys/k/create", object{"kty": "OKP"}, 400, "BadParameter", "type of a key"},
		"a weak size":            {"POST /keys/k/create", object{"kty": "RSA", "key_size": 1024}, 400, "BadParameter", "2048"},
		"another exponent":       {"POST /keys/k/create", object{"kty": "RSA", "public_exponent": 3}, 400, "BadParameter", "65537"},
		"an unknown curve":       {"POST /keys/k/create", object{"kty": "EC", "crv": "P-256K"}, 400, "BadParameter", "curve"},
		"an unknown operation":   {"POST /keys/k/create", object{"kty": "EC", "key_ops": []string{"dance"}}, 400, "BadParameter", "dance"},
		"a policy not in base64": {"POST /keys/k/create", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": object{"data": "!"}}, 400, "BadParameter", "release_policy.data"},
		"a deleted name":         {"POST /keys/gone/create", object{"kty": "EC"}, 409, "Conflict", "deleted"},

		"an old version":          {"POST /keys/k/create?api-version=7.2", object{"kty": "EC-HSM", "attributes": exportable, "release_policy": policy()}, 400, "BadParameter", skr(1001, "The exportable attribute is only supported with premium vaults and API version >= '7.3-preview'.")},
		"exportable changes":      {"PATCH /keys/fixed", object{"attributes": object{"exportable": false}}, 400, "BadParameter", skr(1003, "The exportable attribute of an existing key cannot be changed.")},
		"exportable, no policy":   {"POST /keys/k/create", object{"kty": "EC-HSM", "attributes": exportable}, 400, "BadParameter", skr(1004, "Exportable keys must have release policy.")},
		"policy, not exportable":  {"POST /keys/k/create", object{"kty": "EC-HSM", "release_policy": policy()}, 400, "BadParameter", skr(1005, "Non-exportable keys must not have release policy.")},
		"exportable software":     {"POST /keys/k/create", object{"kty": "EC", "attributes": exportable, "release_policy": policy()}, 400, "BadParameter", skr(1006, "Only HSM keys can be exportable.")},
		"policy of a version":     {"PATCH /keys/fixed/" + version, object{"release_policy": policy()}, 400, "BadParameter", skr(1016, "Key Release Policy can only be set on versionless key.")},
		"immutable":               {"PATCH /keys/fixed", object{"release_policy": policy()}, 400, "BadParameter", skr(1020, "Immutable Key Release Policy cannot be modified.")},
		"imported over immutable": {"PUT /keys/fixed", object{"key": newJWK(t), "hsm": true, "attributes": exportable, "release_policy": policy()}, 400, "BadParameter", skr(1020, "Immutable Key Release Policy cannot be modified.")},

		"no key":            {"PUT /keys/k", object{}, 400, "BadParameter", "no member key"},
		"another HSM's key": {"PUT /keys/k", object{"key": object{"kty": "RSA-HSM", "key_hsm": "AA"}}, 400, "BadParameter", "key_hsm"},
		"half a key":        {"PUT /keys/k", object{"key": object{"kty": "RSA", "n": "AQAB", "e": "AQAB"}}, 400, "BadParameter", ""},
		"a value in hex":    {"PUT /keys/k", object{"key": object{"kty": "oct", "k": "a!"}}, 400, "BadParameter", "member k"},
		"a long oct key":    {"PUT /keys/k", object{"key": object{"kty": "oct", "k": strings.Repeat("A", 88)}}, 400, "BadParameter", "64 bytes"},

		"get what is not there":     {"GET /keys/x", nil, 404, "KeyNotFound", "A key with (name/id) x was not found in this key vault."},
		"update what is not there":  {"PATCH /keys/x", object{}, 404, "KeyNotFound", ""},
		"delete what is not there":  {"DELETE /keys/x", nil, 404, "KeyNotFound", ""},
		"rotate what is not there":  {"POST /keys/x/rotate", nil, 404, "KeyNotFound", ""},
		"versions of nothing":       {"GET /keys/x/versions", nil, 404, "KeyNotFound", ""},
		"delete what is deleted":    {"DELETE /keys/gone", nil, 404, "KeyNotFound", ""},
		"recover what is not there": {"POST /deletedkeys/plain/recover", nil, 404, "KeyNotFound", ""},
		"purge what is not deleted": {"DELETE /deletedkeys/plain", nil, 404, "KeyNotFound", ""},
		"too much chance":           {"POST /rng", object{"count": 129}, 400, "BadParameter", "128"},
		"no chance":                 {"POST /rng", object{}, 400, "BadParameter", "128"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method, path, _ := strings.Cut(c.request, " ")
			a := w.send(t.Context(), "operator", method, path, c.body)
			got := a.get("error.message")
			fits := strings.Contains(got, c.message)
			if strings.HasPrefix(c.message, "AKV") {
				fits = got == c.message
			}
			if a.status != c.status || a.code() != c.code || !fits {
				t.Errorf("%d %s\nwant %d %s %s", a.status, a.body, c.status, c.code, c.message)
			}
		})
	}
}

func newJWK(t *testing.T) object {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return object{"kty": "EC", "crv": "P-256", "d": b64(d), "x": b64(point[1:33]), "y": b64(point[33:])}
}

// TestKeyDocuments holds the members of keys, and their order, to recorded ones of both services.
func TestKeyDocuments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		managed bool
		create  string
		want    []string
		e       string
	}{
		{false, `{"kty":"RSA-HSM","key_ops":["encrypt","decrypt"],"attributes":{"exportable":true,"nbf":1,"exp":4102444800},"tags":{"a":"b"}`, []string{
			"key", "key.kid", "key.kty", "key.key_ops", "key.n", "key.e", "attributes", "attributes.enabled", "attributes.nbf", "attributes.exp",
			"attributes.created", "attributes.updated", "attributes.recoveryLevel", "attributes.recoverableDays", "attributes.exportable", "tags", "tags.a",
			"release_policy", "release_policy.contentType", "release_policy.data",
		}, "AAEAAQ"},
		{true, `{"kty":"RSA","attributes":{"exportable":true}`, []string{
			"attributes", "attributes.created", "attributes.enabled", "attributes.exportable", "attributes.recoverableDays", "attributes.recoveryLevel",
			"attributes.updated", "key", "key.e", "key.key_ops", "key.kid", "key.kty", "key.n", "release_policy", "release_policy.contentType", "release_policy.data",
		}, "AQAB"},
	} {
		w := newWorld(t, setup{managed: c.managed})
		a := w.must(t, "POST", "/keys/k/create", c.create+`,"release_policy":{"data":"`+b64([]byte(policyText))+`"}}`)
		if diff := cmp.Diff(c.want, keyOrder(t, a.body)); diff != "" {
			t.Errorf("managed %v: %s", c.managed, diff)
		}
		if a.get("key.e") != c.e || a.get("key.kty") != "RSA-HSM" || !strings.HasPrefix(a.get("key.kid"), vaultURL+"/keys/k/") || a.get("release_policy.contentType") != "application/json; charset=utf-8" {
			t.Errorf("managed %v: %s", c.managed, a.body)
		}
		a = w.must(t, "DELETE", "/keys/k", nil)
		if a.get("recoveryId") != vaultURL+"/deletedkeys/k" || a.get("deletedDate") == "" || a.get("scheduledPurgeDate") == "" || a.get("key.kid") == "" {
			t.Errorf("managed %v: deleted: %s", c.managed, a.body)
		}
	}
}

// TestKeyLife takes a key through its life.
func TestKeyLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	jwk := newJWK(t)
	first := w.must(t, "PUT", "/keys/life", object{"key": jwk, "tags": object{"a": "b"}})
	if first.get("key.x") != jwk["x"] || first.get("key.y") != jwk["y"] || first.get("key.crv") != "P-256" || first.get("key.d") != "" || first.get("key.kty") != "EC" {
		t.Fatalf("imported: %s", first.body)
	}
	w.clock.pass(time.Second)
	second := w.must(t, "POST", "/keys/life/rotate", nil)
	if second.get("key.kid") == first.get("key.kid") || second.get("key.x") == jwk["x"] || second.get("tags.a") != "b" {
		t.Errorf("rotated: %s", second.body)
	}
	if a := w.must(t, "GET", "/keys/life", nil); a.body != second.body {
		t.Errorf("the current version is %s", a.body)
	}
	id := strings.TrimPrefix(first.get("key.kid"), vaultURL)
	if a := w.must(t, "GET", id, nil); a.body != first.body {
		t.Errorf("the first version is %s", a.body)
	}
	a := w.must(t, "PATCH", id, object{"attributes": object{"enabled": false}, "tags": object{}, "key_ops": []string{"sign"}})
	if a.get("attributes.enabled") != "false" || a.get("tags") != "" || a.get("key.key_ops") != `["sign"]` {
		t.Errorf("updated: %s", a.body)
	}
	a = w.must(t, "GET", "/keys/life/versions", nil)
	if !strings.Contains(a.body, first.get("key.kid")) || !strings.Contains(a.body, second.get("key.kid")) || a.get("nextLink") != "" {
		t.Errorf("versions: %s", a.body)
	}
	w.must(t, "DELETE", "/keys/life", nil)
	if a := w.send(t.Context(), "operator", "GET", "/keys/life", nil); a.status != 404 {
		t.Errorf("deleted: %d %s", a.status, a.body)
	}
	if a := w.must(t, "GET", "/deletedkeys/life", nil); a.get("key.kid") != second.get("key.kid") {
		t.Errorf("the deleted key is %s", a.body)
	}
	if a := w.must(t, "GET", "/deletedkeys", nil); !strings.Contains(a.body, `"kid":"`+vaultURL+`/keys/life"`) || !strings.Contains(a.body, "recoveryId") {
		t.Errorf("the deleted keys are %s", a.body)
	}
	w.must(t, "POST", "/deletedkeys/life/recover", nil)
	if a := w.must(t, "GET", "/keys/life", nil); a.get("key.kid") != second.get("key.kid") {
		t.Errorf("recovered: %s", a.body)
	}
	w.must(t, "DELETE", "/keys/life", nil)
	if a := w.send(t.Context(), "operator", "DELETE", "/deletedkeys/life", nil); a.status != 204 || a.body != "" {
		t.Errorf("purged: %d %s", a.status, a.body)
	}
	if a := w.send(t.Context(), "operator", "GET", "/deletedkeys/life", nil); a.status != 404 {
		t.Errorf("after the purge: %d %s", a.status, a.body)
	}
	if w.log.Len() > 0 {
		t.Errorf("the log has %s", w.log)
	}
}

// TestImportForms imports what clients send: either alphabet, padded or not, with zeros in front, with members more.
func TestImportForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	secret := []byte{0xfb, 0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}
	for name, k := range map[string]string{
		"url": b64(secret), "padded": base64.URLEncoding.EncodeToString(secret), "standard": base64.StdEncoding.EncodeToString(secret),
	} {
		a := w.must(t, "PUT", "/keys/"+name, object{"key": object{"kty": "oct-HSM", "k": k, "alg": "A128KW", "key_ops": []string{"wrapKey"}}})
		if a.get("key.kty") != "oct-HSM" || a.get("key.k") != "" || a.get("key.key_ops") != `["wrapKey"]` {
			t.Errorf("%s: %s", name, a.body)
		}
	}
	for _, name := range []string{"b\n", "AA\r\nAA"} {
		if a := w.send(t.Context(), "operator", "PUT", "/keys/lines", object{"key": object{"kty": "oct", "k": name}}); a.status != 400 {
			t.Errorf("%q: %d", name, a.status)
		}
	}
}

// TestPaging follows the links of lists to their ends.
func TestPaging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, setup{})
	var want []string
	for i := range 7 {
		name := fmt.Sprintf("page-%d", i)
		want = append(want, vaultURL+"/keys/"+name)
		w.must(t, "POST", "/keys/"+name+"/create", object{"kty": "oct"})
	}
	for range 4 {
		w.must(t, "POST", "/keys/page-0/create", object{"kty": "oct"})
	}
	if got := w.follow(t, "/keys?api-version=7.4&maxresults=3", 3); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	got := w.follow(t, "/keys/page-0/versions?api-version=7.4&maxresults=2", 2)
	if len(got) != 5 || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 5 {
		t.Errorf("versions: %q", got)
	}
}

func (w *world) follow(t *testing.T, link string, size int) []string {
	t.Helper()
	var all []string
	for link != "" {
		a := w.must(t, "GET", link, nil)
		var p struct {
			Value []struct {
				KeyID string `json:"kid"`
				ID    string `json:"id"`
			} `json:"value"`
			Next string `json:"nextLink"`
		}
		if err := json.Unmarshal([]byte(a.body), &p); err != nil {
			t.Fatal(err)
		}
		for _, v := range p.Value {
			all = append(all, v.KeyID+v.ID)
		}
		if len(p.Value) > size || len(p.Value) == 0 {
			t.Fatalf("a page of %d entries", len(p.Value))
		}
		if link = p.Next; link == "" {
			break
		}
		u, err := url.Parse(link)
		if err != nil || !strings.HasPrefix(link, vaultURL+"/") {
			t.Fatalf("next is %q: %v", link, err)
		}
		link = u.RequestURI()
	}
	return all
}
