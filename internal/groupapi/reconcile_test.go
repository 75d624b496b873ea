// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cofferdam.dev/internal/group"
)

// interrupt makes a resource's document one in which an operation is under way, as a service that was killed leaves it.
func (b *bench) interrupt(name, kind string, change func(*document)) string {
	b.t.Helper()
	id := resourceID{"sub", "rg", name}
	d, err := b.api.docs.read(b.api.docs.path(id))
	if err != nil {
		b.t.Fatal(err)
	}
	d.Operation = operation{ID: kind + "-" + id.digest() + "-OLD", Kind: kind, Status: inProgress, Started: d.Created}
	if change != nil {
		change(d)
	}
	if err = b.api.docs.write(d); err != nil {
		b.t.Fatal(err)
	}
	return "/subscriptions/sub/providers/Microsoft.ContainerInstance/locations/x/operations/" + d.Operation.ID
}

// TestInterrupted starts the service with everything that a service which was killed may have left.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	names := []string{"put-done", "put-before", "put-same", "put-nothing", "adopted", "stop", "restart", "start", "delete"}
	for _, name := range names {
		b.put(name, resource("img", lasting))
	}
	b.want(b.call("POST", pathOf("start")+"/stop", ""), 204)
	operations := map[string]string{}
	b.close()
	for _, name := range names {
		kind, _, _ := strings.Cut(name, "-")
		var change func(*document)
		switch name {
		case "put-before": // the group is the one before
			change = func(d *document) { d.Resource = []byte(resource("other", lasting)) }
		case "put-same": // likewise, and was described alike
			change = func(d *document) { d.Operation.Started = time.Now() }
		case "start": // the group has ended, and was not started again
			change = func(d *document) { d.Operation.Started = time.Now() }
		case "put-nothing": // there is no group yet
			change = func(d *document) { d.GroupID, d.Group = "", "" }
			g, err := b.store.Lookup(name)
			if err == nil {
				err = errors.Join(b.api.stopGroup(t.Context(), g.Record.ID), b.store.Remove(g.Record.ID))
			}
			if err != nil {
				t.Fatal(err)
			}
		case "adopted": // the group was made, and not noted
			kind = kindPut
			change = func(d *document) { d.GroupID, d.Group = "", "" }
		}
		operations[name] = b.interrupt(name, kind, change)
	}
	half := filepath.Join(b.home, "documents", ".new-123")
	if err := os.WriteFile(half, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	if _, err := os.Stat(half); err == nil {
		t.Error("half a document is left behind")
	}
	for name, want := range map[string]struct{ status, provisioning, state string }{
		"put-done":    {succeeded, "Succeeded", "Running"},
		"put-before":  {failed, "Failed", "Running"},
		"put-same":    {failed, "Failed", "Running"},
		"put-nothing": {failed, "Failed", "Failed"},
		"adopted":     {succeeded, "Succeeded", "Running"},
		"stop":        {succeeded, "Succeeded", "Stopped"},
		"restart":     {failed, "Succeeded", "Running"},
		"start":       {failed, "Failed", "Stopped"},
	} {
		r := b.until(name, "it is settled", func(r *reply) bool {
			s := r.at("properties", "provisioningState")
			return s == "Succeeded" || s == "Failed"
		})
		o := b.want(b.call("GET", operations[name], ""), 200)
		if o.at("status") != want.status || r.at("properties", "provisioningState") != want.provisioning ||
			r.at("properties", "instanceView", "state") != want.state || want.status == failed && o.at("error", "code") != codeOperationLost {
			t.Errorf("%s: %s\n%s", name, o.text, r.text)
		}
	}
	for range attempts {
		if b.call("GET", pathOf("delete"), "").status == 404 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if o := b.want(b.call("GET", operations["delete"], ""), 200); o.at("status") != succeeded {
		t.Errorf("removal: %s", o.text)
	}
	if _, err := b.store.Lookup("delete"); !errors.Is(err, group.ErrNotFound) {
		t.Errorf("the group is still there: %v", err)
	}
	b.close()
	b.open() // which has forgotten the removal, and knows that there is nothing
	if o := b.want(b.call("GET", operations["delete"], ""), 200); o.at("status") != succeeded {
		t.Errorf("removal, after another start: %s", o.text)
	}
	b.want(b.call("GET", strings.Replace(operations["stop"], "stop-", "put-", 1), ""), 404, "OperationNotFound")
}

// TestDamaged refuses to take a document that can not be read for a resource that is not there.
func TestDamaged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", "exit 0"))
	b.close()
	path := b.api.docs.path(resourceID{"sub", "rg", "web"})
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "cut": string(good[:len(good)/2]), "another schema": strings.Replace(string(good), "/v1", "/v9", 1),
		"another place": strings.Replace(string(good), `"name": "web"`, `"name": "other"`, 1), "more": strings.Replace(string(good), `"schema"`, `"odd": 1, "schema"`, 1),
		"long": string(good) + strings.Repeat(" ", maxDocument),
	} {
		if err = os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err = New(b.api.opts); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err = os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.want(b.call("GET", pathOf("web"), ""), 200)
}

// TestCrowd has many clients do everything to the same groups at the same time: at the end there is one truth.
func TestCrowd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			for j := range 6 {
				name := pathOf([]string{"one", "two"}[(i+j)%2])
				c := [][3]string{
					{"PUT", "", resource("img", lasting)}, {"PUT", "", resource("other", lasting)}, {"DELETE", "", ""},
					{"POST", "/stop", ""}, {"POST", "/start", ""}, {"POST", "/restart", ""}, {"GET", "", ""}, {"PATCH", "", `{"tags": {"x": "y"}}`},
				}[(3*i+j)%8]
				r, err := b.ask(t.Context(), c[0], name+c[1], c[2])
				if err != nil || r.status >= 500 {
					t.Errorf("%s %s: %+v, %v", c[0], c[1], r, err)
				}
			}
		})
	}
	all.Wait()
	for _, name := range []string{"one", "two"} {
		for range attempts {
			r := b.call("GET", pathOf(name), "")
			if s := r.at("properties", "provisioningState"); r.status == 404 || s == "Succeeded" || s == "Failed" {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		b.put(name, resource("last", lasting))
		r := b.want(b.call("GET", pathOf(name), ""), 200)
		if r.at("properties", "instanceView", "state") != "Running" || r.at("properties", "containers", 0, "properties", "image") != "last" {
			t.Errorf("%s: %s", name, r.text)
		}
	}
	if groups, err := b.store.List(); len(groups) != 2 || err != nil {
		t.Errorf("%d groups, %v", len(groups), err)
	}
}
