// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/group"
)

// TestLife takes a group through everything that can be asked.
func TestLife(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.want(b.call("GET", pathOf("web"), ""), 404, "ResourceNotFound")
	r := b.want(b.call("PUT", pathOf("web"), resource("img", lasting)), 201)
	if s := r.at("properties", "provisioningState"); s != "Pending" && s != "Creating" {
		t.Errorf("state after the request is %v", s)
	}
	if o := b.follow(r); o.at("status") != succeeded || o.at("endTime") == nil {
		t.Fatalf("operation: %s", o.text)
	}
	b.want(b.call("GET", r.header.Get("Location"), ""), 204)
	r = b.want(b.call("GET", strings.ToLower(pathOf("web")), ""), 200)
	for _, c := range []struct {
		want any
		path []any
	}{
		{"Succeeded", []any{"properties", "provisioningState"}},
		{"Running", []any{"properties", "instanceView", "state"}},
		{"Running", []any{"properties", "containers", 0, "properties", "instanceView", "currentState", "state"}},
		{"Pulling", []any{"properties", "containers", 0, "properties", "instanceView", "events", 0, "name"}},
		{pathOf("web"), []any{"id"}},
		{"web", []any{"name"}},
		{resourceType, []any{"type"}},
		{"b", []any{"tags", "a"}},
		{true, []any{"x-cofferdam", "simulated"}},
		{"web", []any{"x-cofferdam", "groupName"}},
		{base64.StdEncoding.EncodeToString([]byte("package policy # img")), []any{"properties", "confidentialComputeProperties", "ccePolicy"}},
	} {
		if got := r.at(c.path...); got != c.want {
			t.Errorf("%v is %v, want %v", c.path, got, c.want)
		}
	}
	id := r.at("x-cofferdam", "groupID")

	// What a client gets and sends back is no change, and neither are tags.
	b.want(b.call("PUT", pathOf("web"), r.text), 200)
	b.want(b.call("PUT", pathOf("web"), strings.Replace(resource("img", lasting), `"a": "b"`, `"a": "c"`, 1)), 200)
	b.want(b.call("PATCH", pathOf("web"), `{"tags": {"x": "y"}}`), 200)
	b.want(b.call("PATCH", pathOf("web"), `{"tags": {"cofferdam-egress": "none"}}`), 400, "InvalidRequestContent")
	b.want(b.call("PATCH", pathOf("web"), `{"properties": {}}`), 400, "InvalidRequestContent")
	r = b.want(b.call("GET", pathOf("web"), ""), 200)
	if r.at("tags", "x") != "y" || r.at("tags", "a") != nil || r.at("x-cofferdam", "groupID") != id {
		t.Errorf("after no change: %s", r.text)
	}

	// A change makes another group, in the place of the one before.
	b.put("web", resource("other", lasting))
	r = b.want(b.call("GET", pathOf("web"), ""), 200)
	if r.at("x-cofferdam", "groupID") == id || r.at("x-cofferdam", "groupName") != "web" {
		t.Errorf("after a change: %s", r.text)
	}
	if groups, err := b.store.List(); len(groups) != 1 || err != nil {
		t.Errorf("%d groups, %v", len(groups), err)
	}
	b.follow(b.want(b.call("PUT", strings.Replace(pathOf("web"), "/rg/", "/RG/", 1), resource("third", lasting)), 200))
	if g, err := b.store.Lookup("web"); err != nil || g.Record.Source != sourcePrefix+pathOf("web") {
		t.Errorf("its source is %q, %v", g.Record.Source, err)
	}

	b.want(b.call("POST", pathOf("web")+"/start", ""), 204) // it runs
	b.want(b.call("POST", pathOf("web")+"/stop", ""), 204)
	r = b.want(b.call("GET", pathOf("web"), ""), 200)
	if r.at("properties", "instanceView", "state") != "Stopped" || r.at("properties", "provisioningState") != "Succeeded" {
		t.Errorf("after the stop: %s", r.text)
	}
	b.want(b.call("POST", pathOf("web")+"/stop", ""), 204)
	if o := b.follow(b.want(b.call("POST", pathOf("web")+"/start", ""), 202)); o.at("status") != succeeded {
		t.Errorf("start: %s", o.text)
	}
	if o := b.follow(b.want(b.call("POST", pathOf("web")+"/restart", ""), 204)); o.at("status") != succeeded {
		t.Errorf("restart: %s", o.text)
	}
	b.until("web", "a restart is counted", func(r *reply) bool {
		return r.at("properties", "containers", 0, "properties", "instanceView", "previousState", "state") == "Terminated"
	})
	r = b.want(b.call("DELETE", pathOf("web"), ""), 202)
	if o := b.follow(r); o.at("status") != succeeded {
		t.Errorf("removal: %s", o.text)
	}
	b.want(b.call("GET", r.header.Get("Location"), ""), 204)
	b.want(b.call("DELETE", pathOf("web"), ""), 204)
	b.want(b.call("GET", pathOf("web"), ""), 404, "ResourceNotFound")
	if _, err := b.store.Lookup("web"); !errors.Is(err, group.ErrNotFound) {
		t.Errorf("the group is still there: %v", err)
	}
	b.recorded("groups.put", "groups.patch", "groups.stop", "groups.start", "groups.restart", "groups.delete", "groups.outcome")
}

// recorded makes sure that the audit log holds entries of these kinds, and that its chain holds.
func (b *bench) recorded(kinds ...string) {
	b.t.Helper()
	_ = b.log.Ready(b.t.Context())
	files, _ := filepath.Glob(filepath.Join(b.home, "audit", "*"))
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			b.t.Fatal(err)
		}
		all = append(all, data...)
	}
	for _, k := range kinds {
		if !strings.Contains(string(all), `"kind":"`+k+`"`) {
			b.t.Errorf("the audit log has no %s", k)
		}
	}
}

// TestEnds are groups whose containers end, one way or another.
func TestEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, tc := range map[string]struct{ script, state, detail string }{
		"good": {"echo done", "Succeeded", "Completed"},
		"bad":  {"exit 3", "Failed", "Error"},
	} {
		b.put(name, resource("img", tc.script))
		r := b.until(name, "it ends", func(r *reply) bool { return r.at("properties", "instanceView", "state") != "Running" })
		if r.at("properties", "instanceView", "state") != tc.state || r.at("properties", "provisioningState") != "Succeeded" ||
			r.at("properties", "containers", 0, "properties", "instanceView", "currentState", "detailStatus") != tc.detail {
			t.Errorf("%s: %s", name, r.text)
		}
	}
	r := b.want(b.call("GET", pathOf("good")+"/containers/main/logs", ""), 200)
	if r.at("content") != "done\n" {
		t.Errorf("log of one that has ended: %s", r.text)
	}
	// Whoever starts a group that has ended gets it once more.
	b.follow(b.want(b.call("POST", pathOf("good")+"/start", ""), 202))
	b.until("good", "it ends again", func(r *reply) bool { return r.at("properties", "instanceView", "state") == "Succeeded" })
	r = b.want(b.call("GET", pathOf("good")+"/containers/main/logs?tail=1", ""), 200)
	if r.at("content") != "done\n" {
		t.Errorf("tail: %s", r.text)
	}
	b.want(b.call("POST", pathOf("good")+"/containers/main/exec", `{"command": "/bin/true"}`), 409, "ContainerGroupNotRunning")
}

// TestFailures are deployments that do not come about.
func TestFailures(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, tc := range map[string]struct{ body, code string }{
		"missing": {resource("missing", lasting), "ContainerGroupDeploymentFailed"},
		"misfit":  {resource("misfit", lasting), "CcePolicyRefused"},
		"denied":  {strings.Replace(resource("img", lasting), "/bin/sh", "/fake/denied", 1), "CcePolicyRefused"},
	} {
		r := b.want(b.call("PUT", pathOf(name), tc.body), 201)
		o := b.follow(r)
		if o.at("status") != failed || o.at("error", "code") != tc.code {
			t.Errorf("%s: %s", name, o.text)
		}
		b.want(b.call("GET", r.header.Get("Location"), ""), 409, tc.code)
		r = b.want(b.call("GET", pathOf(name), ""), 200)
		if r.at("properties", "provisioningState") != "Failed" || r.at("properties", "instanceView", "state") != "Failed" ||
			r.at("x-cofferdam", "error", "code") != tc.code {
			t.Errorf("%s: %s", name, r.text)
		}
		if e := r.at("properties", "containers", 0, "properties", "instanceView", "events", 1, "name"); name == "missing" && e != "Failed" {
			t.Errorf("the events of a missing image: %s", r.text)
		}
		// The same once more is no change that is there already.
		b.follow(b.want(b.call("PUT", pathOf(name), tc.body), 200))
		b.follow(b.want(b.call("DELETE", pathOf(name), ""), 202))
	}
	r := b.want(b.call("PUT", pathOf("slow"), resource("slow", lasting)), 201)
	b.want(b.call("PUT", pathOf("slow"), resource("img", lasting)), 409, "ContainerGroupTransitioning")
	b.want(b.call("POST", pathOf("slow")+"/stop", ""), 409, "ContainerGroupTransitioning")
	b.want(b.call("GET", pathOf("slow")+"/containers/main/logs", ""), 409, "ContainerGroupTransitioning")
	b.follow(b.want(b.call("DELETE", pathOf("slow"), ""), 202))
	if o := b.want(b.call("GET", r.header.Get("Azure-AsyncOperation"), ""), 200); o.at("status") != failed || o.at("error", "code") != codeOperationLost {
		t.Errorf("a deployment that was called off: %s", o.text)
	}
}

// TestBesideOthers has the command line work on the same groups.
func TestBesideOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("taken", resource("img", lasting))
	// A resource group has names of its own; the store has one for each.
	other := strings.Replace(pathOf("taken"), "/rg/", "/rg2/", 1)
	b.follow(b.want(b.call("PUT", other, resource("img", lasting)), 201))
	r := b.want(b.call("GET", other, ""), 200)
	if name, _ := r.at("x-cofferdam", "groupName").(string); !strings.HasPrefix(name, "taken-") {
		t.Errorf("the second group is %q", name)
	}
	// Somebody stops a group, and removes it.
	g, err := b.store.Lookup("taken")
	if err == nil {
		err = errors.Join(b.api.stopGroup(t.Context(), g.Record.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	b.until("taken", "the stop is seen", func(r *reply) bool { return r.at("properties", "instanceView", "state") == "Stopped" })
	if err = b.store.Remove("taken"); err != nil {
		t.Fatal(err)
	}
	r = b.want(b.call("GET", pathOf("taken"), ""), 200)
	if r.at("properties", "provisioningState") != "Failed" {
		t.Errorf("a group that was removed: %s", r.text)
	}
	b.want(b.call("GET", pathOf("taken")+"/containers/main/logs", ""), 409, "ContainerGroupNotRunning")
	// What was described is enough to make it again.
	if o := b.follow(b.want(b.call("POST", pathOf("taken")+"/start", ""), 202)); o.at("status") != succeeded {
		t.Errorf("start: %s", o.text)
	}
	b.until("taken", "it runs again", func(r *reply) bool { return r.at("properties", "instanceView", "state") == "Running" })
}

// TestAuditIsNeeded changes nothing that can not be noted.
func TestAuditIsNeeded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", lasting))
	closed, err := audit.OpenState(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	was := b.api.opts.Audit
	b.api.opts.Audit = closed
	for _, c := range [][3]string{
		{"PUT", "", resource("other", lasting)}, {"PATCH", "", `{"tags": {}}`}, {"DELETE", "", ""}, {"POST", "/stop", ""}, {"POST", "/restart", ""},
		{"POST", "/containers/main/exec", `{"command": "/bin/true"}`}, {"POST", "/containers/main/attach", ""},
	} {
		b.want(b.call(c[0], pathOf("web")+c[1], c[2]), 503, "ServiceUnavailable")
	}
	b.want(b.call("PUT", pathOf("new"), resource("img", lasting)), 503)
	b.want(b.call("GET", pathOf("new"), ""), 404)
	b.api.opts.Audit = was
	r := b.want(b.call("GET", pathOf("web"), ""), 200)
	if r.at("properties", "instanceView", "state") != "Running" {
		t.Errorf("after refusals: %s", r.text)
	}
}
