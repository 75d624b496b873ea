// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
	"cofferdam.dev/internal/spec/reader"
)

// described is a resource that was put, read.
type described struct {
	resource map[string]any // without secure values and without what the service answers
	group    spec.Group
	secure   bool   // secure values were taken out
	mac      []byte // over what makes a difference, secure values included
	warnings []string
}

// members of a resource that are kept, in lower case. Others are answered by the service, or left out with a warning.
var (
	keptMembers     = []string{"location", "tags", "identity", "zones", "properties"}
	answeredMembers = []string{"id", "name", "type", "etag", "systemdata", extensionMember}
)

// extensionMember holds what only we answer.
const extensionMember = "x-cofferdam"

// parseObject reads a body that is one JSON object, in which no name stands twice.
func parseObject(data []byte) (map[string]any, *armError) {
	_, err := doc.ParseJSON(data)
	var v map[string]any
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(data))
		dec.UseNumber()
		err = dec.Decode(&v)
		if err == nil && v == nil {
			err = errors.New("it is null")
		}
		if _, more := dec.Token(); err == nil && !errors.Is(more, io.EOF) {
			err = errors.New("something follows the object")
		}
	}
	if err != nil {
		return nil, badRequest(codeBadContent, "", "The request content was invalid and could not be read: %v.", err)
	}
	return v, nil
}

// describe reads the resource in a body. The body is a resource and no template: nothing in it is an expression.
func (a *API) describe(ctx context.Context, id resourceID, data []byte) (*described, *armError) {
	body, bad := parseObject(data)
	if bad != nil {
		return nil, bad
	}
	d := &described{resource: map[string]any{}}
	for key, v := range body {
		lower := strings.ToLower(key)
		switch {
		case slices.Contains(keptMembers, lower):
			d.resource[lower] = v
		case lower == "name" && !sameText(v, id.Name) || lower == "type" && !sameText(v, resourceType):
			return nil, badRequest(codeBadContent, key, "The %s of the resource is %v, and that of the address is another.", lower, v)
		case !slices.Contains(answeredMembers, lower):
			return nil, badRequest(codeBadContent, key, "A container group has no member %q.", key)
		}
	}
	location, _ := d.resource["location"].(string)
	if location == "" {
		return nil, badRequest("LocationRequired", "location", "The location property is required for this definition.")
	}
	if d.resource["zones"] != nil {
		d.warnings = append(d.warnings, "zones: one machine has no zones; this is left out")
	}
	dropAnswers(d.resource)
	err := d.read(ctx, id, location)
	if err != nil {
		return nil, contentError(err)
	}
	whole, err := json.Marshal(d.resource)
	if err == nil {
		whole, err = essence(whole, "")
	}
	if err != nil {
		return nil, contentError(err)
	}
	mac := hmac.New(sha256.New, a.macKey[:])
	mac.Write(whole)
	d.mac = mac.Sum(nil)
	d.secure = withoutSecrets(member(d.resource, "properties"))
	return d, nil
}

func sameText(v any, want string) bool {
	s, ok := v.(string)
	return ok && strings.EqualFold(s, want)
}

// read has the template reader read the resource.
func (d *described) read(ctx context.Context, id resourceID, location string) error {
	wrapped, err := literal(d.resource)
	if err != nil {
		return err
	}
	resource, _ := wrapped.(map[string]any)
	resource["type"], resource["name"] = resourceType, id.Name
	text, err := json.Marshal(map[string]any{"resources": []any{resource}})
	if err != nil {
		return err
	}
	groups, warnings, err := reader.Read(ctx, []reader.Input{{Name: "the resource", Data: text}}, reader.Options{
		Format: reader.FormatARM, SubscriptionID: id.Subscription, ResourceGroup: id.ResourceGroup, Location: location,
	})
	if err != nil {
		return err
	}
	d.group = groups[0]
	d.group.Name = id.Name
	for _, w := range warnings {
		d.warnings = append(d.warnings, place(w.Path)+": "+w.Text)
	}
	return nil
}

// literal is a value in which a template's reader takes every text for what it is.
func literal(v any) (any, error) {
	switch v := v.(type) {
	case string:
		return literalText(v), nil
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			var err error
			if out[i], err = literal(item); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			if _, loop := item.([]any); loop && strings.EqualFold(key, "copy") {
				return nil, errors.New("copy is for templates, and this is a resource")
			}
			one, err := literal(item)
			if err != nil {
				return nil, err
			}
			out[literalText(key)] = one
		}
		return out, nil
	}
	return v, nil
}

// literalText escapes what would be an expression in a template, or an escape.
func literalText(s string) string {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return "[" + s
	}
	return s
}

// place is where something stands in the resource, from where it stands in the template that was made of it.
func place(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, "$.resources[0]"), ".")
}

// contentError is the answer to a resource that can not be read.
func contentError(err error) *armError {
	var at *doc.Error
	if errors.As(err, &at) {
		return badRequest(codeBadContent, place(at.Path), "The request content was invalid: %s: %v.", place(at.Path), at.Err)
	}
	return badRequest(codeBadContent, "", "The request content was invalid: %v.", err)
}

// member finds a member of an object without regard to case.
func member(v any, name string) any {
	m, _ := v.(map[string]any)
	if one, ok := m[name]; ok {
		return one
	}
	for key, one := range m {
		if strings.EqualFold(key, name) {
			return one
		}
	}
	return nil
}

// remove takes members out of an object, without regard to case. It says whether there was one that held something.
func remove(v any, names ...string) bool {
	m, _ := v.(map[string]any)
	found := false
	for key, one := range m {
		if slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, key) }) {
			found = found || one != nil
			delete(m, key)
		}
	}
	return found
}

// items are those of a member that is a list.
func items(v any, name string) []any {
	list, _ := member(v, name).([]any)
	return list
}

// dropAnswers takes out what a client got as an answer and sends back.
func dropAnswers(resource map[string]any) {
	properties := member(resource, "properties")
	remove(properties, "provisioningState", "instanceView")
	remove(member(properties, "ipAddress"), "ip", "fqdn")
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(properties, list) {
			remove(member(c, "properties"), "instanceView")
		}
	}
	remove(member(resource, "identity"), "principalId", "tenantId")
}

// secretMembers are those that hold secure values, wherever they stand in a group's properties.
var secretMembers = []string{"secureValue", "password", "storageAccountKey", "workspaceKey", "protectedSettings"}

// withoutSecrets takes the secure values out of a group's properties. It says whether there were any.
func withoutSecrets(properties any) bool {
	found := false
	for _, v := range items(properties, "volumes") {
		files, _ := member(v, "secret").(map[string]any)
		found = found || len(files) > 0
		clear(files)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			found = remove(v, secretMembers...) || found
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(properties)
	return found
}

// policyTags are the tags that decide about the policy of a group.
var policyTags = []string{"cofferdam-egress", "Annotate-zero-sidecar"}

// essence is what of a resource makes a difference for the group that runs, in one form. The policy that is in force makes
// none: clients send it back.
func essence(resource json.RawMessage, inForce string) ([]byte, error) {
	var v map[string]any
	dec := json.NewDecoder(bytes.NewReader(resource))
	dec.UseNumber()
	err := dec.Decode(&v)
	if err != nil {
		return nil, fmt.Errorf("reading a resource: %w", err)
	}
	properties, _ := v["properties"].(map[string]any)
	confidential := member(properties, "confidentialComputeProperties")
	if inForce != "" && member(confidential, "ccePolicy") == inForce {
		remove(confidential, "ccePolicy")
	}
	if m, ok := confidential.(map[string]any); ok && len(m) == 0 {
		remove(properties, "confidentialComputeProperties")
	}
	tags := map[string]any{}
	for _, name := range policyTags {
		if t := member(v["tags"], name); t != nil {
			tags[name] = t
		}
	}
	return json.Marshal([]any{properties, v["identity"], tags})
}
