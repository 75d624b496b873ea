// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/spec/armexpr"
)

// secretive is a group with every kind of secret, each beginning with hush-.
func secretive(image, token string) string {
	return resource(image, lasting,
		`"imageRegistryCredentials": [{"server": "registry.test", "username": "u", "PASSWORD": "hush-password"}]`,
		`"diagnostics": {"logAnalytics": {"workspaceId": "w", "workspaceKey": "hush-key"}}`,
		`"volumes": [{"name": "keys", "secret": {"token": "`+token+`"}}, {"name": "files", "azureFile": {"shareName": "s", "storageAccountName": "a", "storageAccountKey": "hush-storage"}}]`,
		`"initContainers": [{"name": "first", "properties": {"image": "img", "command": ["/bin/true"], "environmentVariables": [{"name": "A", "secureValue": "hush-env"}, {"name": "B", "value": "open"}]}}]`)
}

// TestSecretsStayInside puts secrets, and looks for them everywhere.
func TestSecretsStayInside(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const token = "aHVzaC1maWxl" // hush-file
	body := secretive("img", token)
	b.put("safe", body)
	got := b.want(b.call("GET", pathOf("safe"), ""), 200).text + b.want(b.call("GET", pathOf(""), ""), 404).text +
		b.want(b.call("GET", strings.TrimSuffix(pathOf(""), "/"), ""), 200).text
	for _, secret := range []string{"hush-", token} { // neither is found in a random text of letters and digits
		if strings.Contains(got, secret) {
			t.Errorf("%s is answered: %s", secret, got)
		}
	}
	if !strings.Contains(got, `"value":"open"`) || !strings.Contains(got, `"username":"u"`) {
		t.Errorf("what is no secret is left out: %s", got)
	}
	err := filepath.WalkDir(b.home, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the supervisor replaces its files
		}
		for _, secret := range []string{"hush-", token} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s is in %s", secret, path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}

	// The same secrets are no change, others are, and so are those that nobody remembers.
	id := func() any { return b.want(b.call("GET", pathOf("safe"), ""), 200).at("x-cofferdam", "groupID") }
	first := id()
	b.want(b.call("PUT", pathOf("safe"), body), 200)
	if id() != first {
		t.Error("the same secrets made another group")
	}
	b.want(b.call("PUT", pathOf("safe"), strings.Replace(body, `"a": "b"`, `"a": "c"`, 1)), 200)
	if id() != first {
		t.Error("another tag made another group")
	}
	b.put("safe", secretive("img", "b3RoZXI="))
	second := id()
	if second == first {
		t.Error("other secrets made no other group")
	}
	b.want(b.call("POST", pathOf("safe")+"/stop", ""), 204)
	if o := b.follow(b.want(b.call("POST", pathOf("safe")+"/start", ""), 202)); o.at("status") != succeeded {
		t.Errorf("start with the files in memory: %s", o.text)
	}
	b.want(b.call("POST", pathOf("safe")+"/stop", ""), 204)
	b.close()
	b.open()
	b.want(b.call("POST", pathOf("safe")+"/start", ""), 409, "Conflict")
	b.put("safe", secretive("img", "b3RoZXI="))
	if id() == second {
		t.Error("secrets that nobody remembers made no other group")
	}
}

// TestContent are bodies that can not be read, with the place that is named.
func TestContent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	good := resource("img", lasting)
	for name, tc := range map[string]struct{ body, code, target string }{
		"no JSON":       {"{", codeBadContent, ""},
		"a list":        {"[]", codeBadContent, ""},
		"nothing":       {"", codeBadContent, ""},
		"null":          {"null", codeBadContent, ""},
		"two":           {good + good, codeBadContent, ""},
		"no location":   {strings.Replace(good, `"location": "here",`, "", 1), "LocationRequired", "location"},
		"another name":  {strings.Replace(good, `{"location"`, `{"name": "x", "location"`, 1), codeBadContent, "name"},
		"another type":  {strings.Replace(good, `{"location"`, `{"type": "x", "location"`, 1), codeBadContent, "type"},
		"odd member":    {strings.Replace(good, `{"location"`, `{"dependsOn": [], "location"`, 1), codeBadContent, "dependsOn"},
		"odd tag":       {strings.Replace(good, `"a": "b"`, `"a": 1`, 1), "InvalidTags", "tags"},
		"no image":      {strings.Replace(good, `"image": "img",`, "", 1), codeBadContent, "properties.containers[0].properties"},
		"odd property":  {strings.Replace(good, `"osType"`, `"odd": 1, "osType"`, 1), codeBadContent, "properties.odd"},
		"Windows":       {strings.Replace(good, `Linux`, `Windows`, 1), codeBadContent, "properties"},
		"a loop":        {strings.Replace(good, `"osType"`, `"copy": [], "osType"`, 1), codeBadContent, ""},
		"no containers": {`{"location": "here", "properties": {"containers": []}}`, codeBadContent, "properties"},
	} {
		r := b.call("PUT", pathOf("web"), tc.body)
		target, _ := r.at("error", "target").(string)
		if r.status != 400 || r.at("error", "code") != tc.code || target != tc.target || r.header.Get("X-Ms-Error-Code") != tc.code {
			t.Errorf("%s: %d %s", name, r.status, r.text)
		}
	}
	b.want(b.call("PUT", strings.Replace(pathOf("web"), "/rg/", "/r%20g/", 1), good), 400, "InvalidResourceGroupName")
	b.want(b.call("PUT", strings.Replace(pathOf("web"), "/sub/", "/s_b/", 1), good), 400, "InvalidSubscriptionId")
	b.want(b.call("PUT", pathOf("Web"), good), 400, "InvalidResourceName")
	b.want(b.call("GET", pathOf("web")+"?api-version=", ""), 400, "MissingApiVersionParameter")
	b.want(b.call("GET", pathOf("web")+"?api-version=2099-01-01", ""), 400, "NoRegisteredProviderFound")
	b.want(b.call("POST", pathOf("web"), ""), 405, "MethodNotAllowed")
	b.want(b.call("GET", "/else", ""), 404, "InvalidResourceType")
	if l := b.want(b.call("GET", strings.TrimSuffix(pathOf(""), "/"), ""), 200); len(l.at("value").([]any)) != 0 {
		t.Errorf("something was made: %s", l.text)
	}
	// A resource is no template: what looks like an expression is a text.
	b.put("web", resource("img", lasting, `"dnsConfig": {"nameServers": ["1.1.1.1"], "options": "[parameters('x')]"}`))
	r := b.want(b.call("GET", pathOf("web"), ""), 200)
	if r.at("properties", "dnsConfig", "options") != "[parameters('x')]" {
		t.Errorf("a text became %s", r.text)
	}
}

// TestLiteral makes sure that no text of a resource is taken for an expression.
func TestLiteral(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.SampledFrom([]rune("[]a'("))).Draw(t, "text")
		_, got, expression := armexpr.Split(literalText(text))
		if expression || got != text {
			t.Fatalf("%q is read as %q (expression %v)", text, got, expression)
		}
	})
}

func TestLogs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", "printf 'one\\ntwo\\n\\377\\n'; sleep 0.01; exit 0"))
	b.until("web", "it ends", func(r *reply) bool { return r.at("properties", "instanceView", "state") == "Succeeded" })
	logs := pathOf("web") + "/containers/main/logs"
	if r := b.want(b.call("GET", logs, ""), 200); r.at("content") != "one\ntwo\n\uFFFD\n" {
		t.Errorf("all is %s", r.text)
	}
	if r := b.want(b.call("GET", logs+"?tail=2&timestamps=true", ""), 200); !strings.Contains(fmt.Sprint(r.at("content")), "Z two\n") || strings.Contains(r.text, "one") {
		t.Errorf("the end with times is %s", r.text)
	}
	for _, bad := range []string{"tail=0", "tail=x", "tail=99999999999", "timestamps=maybe"} {
		b.want(b.call("GET", logs+"?"+bad, ""), 400, "InvalidParameter")
	}
	b.want(b.call("GET", pathOf("web")+"/containers/none/logs", ""), 404, "ContainerNotFound")
	b.want(b.call("GET", pathOf("none")+"/containers/main/logs", ""), 404, "ResourceNotFound")
}

// TestPages lists more groups than one page has.
func TestPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const all = 2*pageSize + 3
	for i := range all {
		id := resourceID{"sub", map[bool]string{true: "rg", false: "Other"}[i%2 == 0], fmt.Sprintf("g%03d", i)}
		d := &document{
			Schema: documentSchema, ID: id, Resource: json.RawMessage(`{"location": "here", "properties": {}}`),
			Operation: operation{ID: "put-x", Kind: kindPut, Status: failed, Error: failure(409, codeDeployment, "", "x")},
		}
		e := b.api.find(id, true)
		err := b.api.save(e, d)
		e.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.close()
	b.open()
	for path, want := range map[string]int{
		"/subscriptions/SUB/providers/Microsoft.ContainerInstance/containerGroups":  all,
		strings.TrimSuffix(pathOf(""), "/"):                                         pageSize + 2,
		"/subscriptions/else/providers/Microsoft.ContainerInstance/containerGroups": 0,
	} {
		var names []string
		for next := path; next != ""; {
			r := b.want(b.call("GET", next, ""), 200)
			page, _ := r.at("value").([]any)
			if len(page) > pageSize {
				t.Errorf("a page has %d", len(page))
			}
			for _, v := range page {
				names = append(names, fmt.Sprint(member(v, "id")))
			}
			next, _ = r.at("nextLink").(string)
		}
		if len(names) != want || len(slices.Compact(slices.Sorted(slices.Values(names)))) != want {
			t.Errorf("%s has %d of %d: %v", path, len(names), want, names)
		}
	}
	b.want(b.call("GET", strings.TrimSuffix(pathOf(""), "/")+"?$skiptoken=%25", ""), 400, "InvalidSkipToken")
}

// TestRoles has every call sent by somebody who may not.
func TestRoles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, rt := range routes() {
		path := strings.NewReplacer("{subscriptionId}", "sub", "{resourceGroupName}", "rg", "{containerGroupName}", "web", "{containerName}", "main",
			"{location}", "local", "{operationId}", "put-1-2", "{sessionId}", "s").Replace(rt.path)
		if rt.role == "" {
			continue
		}
		r := b.call(rt.method, path, "{}", "Authorization", "Bearer stranger")
		b.want(r, 403, "AuthorizationFailed")
		r = b.call(rt.method, path, "{}", "Authorization", "Bearer reader")
		if reads := rt.role == RoleReader; (r.status != 403) != reads {
			t.Errorf("%s by a reader is %d", rt.id, r.status)
		}
		r = b.call(rt.method, path, "{}", "Authorization", "Bearer operator")
		if r.status == 401 || r.status == 403 {
			t.Errorf("%s by an operator is %d", rt.id, r.status)
		}
	}
	b.want(b.call("GET", pathOf("web"), "", "Authorization", "Basic x"), 404) // our test lets those in who have no token
}

// TestDescription holds the OpenAPI description and the router together.
func TestDescription(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	r := b.want(b.call("GET", "/openapi.json", ""), 200)
	var doc struct {
		Paths      map[string]map[string]struct{ OperationID string }
		Components struct{ Schemas map[string]any }
	}
	if err := json.Unmarshal([]byte(r.text), &doc); err != nil {
		t.Fatal(err)
	}
	var described, routed []string
	for path, item := range doc.Paths {
		for method, o := range item {
			described = append(described, strings.ToUpper(method)+" "+path+" "+o.OperationID)
		}
	}
	for _, rt := range routes() {
		routed = append(routed, rt.method+" "+rt.path+" "+rt.id)
		for _, s := range append(slices.Collect(maps.Values(rt.answers)), rt.body) {
			if _, ok := doc.Components.Schemas[s]; s != "" && !ok {
				t.Errorf("%s speaks of a schema %q that is not there", rt.id, s)
			}
		}
	}
	slices.Sort(described)
	slices.Sort(routed)
	if d := cmp.Diff(routed, described); d != "" {
		t.Errorf("routes and description (-routes +description):\n%s", d)
	}
	if n := len(slices.Compact(routed)); n != len(routes()) {
		t.Errorf("%d of %d routes are different", n, len(routes()))
	}
	for _, text := range strings.Split(r.text, `"$ref": "#/components/schemas/`)[1:] {
		name, _, _ := strings.Cut(text, `"`)
		if _, ok := doc.Components.Schemas[name]; !ok {
			t.Errorf("the schema %q is not there", name)
		}
	}
	// Every described path leads to its route, and to nothing else.
	for i, rt := range routes() {
		for j, other := range routes() {
			if _, ok := other.match(strings.Split(rt.path, "/")); ok && i != j && other.method == rt.method {
				t.Errorf("%s and %s are the same request", rt.id, other.id)
			}
		}
	}
}

// TestEmptyOptions makes sure that nothing is served without what it needs.
func TestEmptyOptions(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{}); err == nil {
		t.Error("an API of nothing")
	}
	w := httptest.NewRecorder()
	Error(w, nil, http.StatusTooManyRequests, "TooManyRequests", "slow down")
	if w.Code != 429 || !strings.Contains(w.Body.String(), `"error":{"code":"TooManyRequests","message":"slow down"}`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
