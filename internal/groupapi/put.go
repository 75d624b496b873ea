// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"cofferdam.dev/internal/group"
)

// readBody reads a request's body; the frame bounds it.
func readBody(r *http.Request) ([]byte, *armError) {
	data, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, failure(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "", "The request has more than %d bytes.", large.Limit)
	case err != nil:
		return nil, badRequest(codeBadContent, "", "The request's body could not be read.")
	}
	return data, nil
}

// putGroup makes a group, or replaces it by what is described differently now.
func (a *API) putGroup(w http.ResponseWriter, r *http.Request, p params) *armError {
	id := p.resource()
	data, bad := readBody(r)
	if bad != nil {
		return bad
	}
	described, bad := a.describe(r.Context(), id, data)
	if bad == nil {
		bad = checkTags(described.resource["tags"])
	}
	if bad != nil {
		return bad
	}
	resource, err := json.Marshal(described.resource)
	if err != nil {
		return a.internal(err)
	}
	e := a.find(id, true)
	defer e.mu.Unlock()
	status := http.StatusCreated
	d := &document{Schema: documentSchema, ID: id, Created: a.opts.Now().UTC()}
	if e.doc != nil {
		if e.doc.Operation.Status == inProgress {
			return transitioning(id, e.doc.Operation.Kind)
		}
		status, d, id = http.StatusOK, e.doc.clone(), e.doc.ID // as it was first written
		if a.same(e, resource, described) {
			return a.putSame(w, r, e, resource)
		}
	}
	d.Resource, d.Secure, d.Warnings, d.Changed, d.Events = resource, described.secure, described.warnings, a.opts.Now().UTC(), nil
	bad = a.begin(r, e, d, kindPut, map[string]any{"digest": hashOf(resource), "new": e.doc == nil})
	if bad != nil {
		if e.doc == nil {
			a.drop(id, e)
		}
		return bad
	}
	e.mac, e.phase = described.mac, "Pending"
	a.run(e, a.deployment(e, id, described.group, hashOf(resource)))
	announce(w, r, id, &e.doc.Operation)
	return a.answerGroup(w, status, e)
}

// same says whether what was put is what is there already: a group that came to be and still is, with the same description.
// Secure values are compared where this process knows them; where it does not, they count as others.
func (a *API) same(e *entry, resource json.RawMessage, d *described) bool {
	if e.doc.Operation.Status != succeeded || e.doc.Secure != d.secure {
		return false
	}
	g := a.current(e.doc)
	if g == nil {
		return false
	}
	plan, _, err := group.Load(g.Dir)
	if err != nil {
		return false
	}
	policy := base64.StdEncoding.EncodeToString(plan.Policy)
	was, errWas := essence(e.doc.Resource, policy)
	is, errIs := essence(resource, policy)
	return errWas == nil && errIs == nil && bytes.Equal(was, is) && (!d.secure || a.sameSecrets(e, d))
}

// sameSecrets compares everything, secure values included, with what was put last.
func (a *API) sameSecrets(e *entry, d *described) bool {
	return e.mac != nil && hmac.Equal(e.mac, d.mac)
}

// putSame takes over what makes no difference for the group.
func (a *API) putSame(w http.ResponseWriter, r *http.Request, e *entry, resource json.RawMessage) *armError {
	if !bytes.Equal(resource, e.doc.Resource) {
		d := e.doc.clone()
		d.Resource, d.Changed = resource, a.opts.Now().UTC()
		bad := a.audit(r.Context(), "patch", map[string]any{"resource": d.ID.String(), "digest": hashOf(resource)})
		if bad != nil {
			return bad
		}
		err := a.save(e, d)
		if err != nil {
			return a.internal(err)
		}
	}
	return a.answerGroup(w, http.StatusOK, e)
}

// checkTags refuses tags that Azure does not take.
func checkTags(v any) *armError {
	if v == nil {
		return nil
	}
	tags, ok := v.(map[string]any)
	if !ok {
		return badRequest(codeBadContent, "tags", "The tags are no object.")
	}
	const most, longestName, longestValue = 50, 512, 256
	if len(tags) > most {
		return badRequest("InvalidTags", "tags", "There are %d tags, limit is %d.", len(tags), most)
	}
	for name, value := range tags {
		s, ok := value.(string)
		if !ok || name == "" || len(name) > longestName || len(s) > longestValue {
			return badRequest("InvalidTags", "tags", "The tag %.80q is no text of at most %d bytes, or its name has more than %d.", name, longestValue, longestName)
		}
	}
	return nil
}

// patchGroup replaces a group's tags. Those that decide about its policy stay as they are.
func (a *API) patchGroup(w http.ResponseWriter, r *http.Request, p params) *armError {
	id := p.resource()
	data, bad := readBody(r)
	if bad != nil {
		return bad
	}
	body, bad := parseObject(data)
	if bad != nil {
		return bad
	}
	for key := range body {
		if !slices.Contains([]string{"tags", "location", "id", "name", "type"}, key) {
			return badRequest(codeBadContent, key, "Only the tags can be changed like this; put the resource.")
		}
	}
	if bad = checkTags(body["tags"]); bad != nil {
		return bad
	}
	e, bad := a.ready(id)
	if bad != nil {
		return bad
	}
	defer e.mu.Unlock()
	if body["tags"] == nil {
		return a.answerGroup(w, http.StatusOK, e)
	}
	resource, _ := parseObject(e.doc.Resource) // we wrote it
	tags, _ := body["tags"].(map[string]any)
	for _, name := range policyTags {
		if member(resource["tags"], name) != member(tags, name) {
			return badRequest(codeBadContent, "tags."+name, "The tag %q decides about the policy; put the resource.", name)
		}
	}
	resource["tags"] = maps.Clone(tags)
	text, err := json.Marshal(resource)
	if err != nil {
		return a.internal(err)
	}
	d := e.doc.clone()
	d.Resource, d.Changed = text, a.opts.Now().UTC()
	if bad = a.audit(r.Context(), "patch", map[string]any{"resource": id.String(), "digest": hashOf(text)}); bad != nil {
		return bad
	}
	err = a.save(e, d)
	if err != nil {
		return a.internal(err)
	}
	return a.answerGroup(w, http.StatusOK, e)
}

// redescribe reads a stored resource again. It is for those without secure values, which are whole.
func (a *API) redescribe(ctx context.Context, d *document) (*described, *armError) {
	if d.Secure {
		return nil, failure(http.StatusConflict, codeConflict, "", "The secure values of the container group %q are not stored; put the resource again.", d.ID.Name)
	}
	return a.describe(ctx, d.ID, d.Resource)
}
