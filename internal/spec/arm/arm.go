// SPDX-License-Identifier: Apache-2.0

// Package arm reads the container groups of Azure Resource Manager templates.
//
// It evaluates what the groups need of a template, and nothing else, with the functions of armexpr: a value that only a
// deployment knows is an error where a policy depends on it, is listed as unknown where only the group's life does, and
// goes unnoticed elsewhere. It asks no network and trusts
// nothing that it reads; a property of a container that it does not know is an error, since it could change what runs.
package arm

import (
	"context"
	"errors"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/armexpr"
	"cofferdam.dev/internal/spec/doc"
)

// Options say what a template leaves open.
type Options struct {
	// Parameters are values of parameters as text, by name; they win over those of ParameterFiles.
	Parameters     map[string]string
	ParameterFiles []*doc.Value

	// AllowWildcards approves of rules that admit any value of an environment variable, where it is not known.
	AllowWildcards bool

	// What is known of the deployment; empty if nothing.
	SubscriptionID string
	ResourceGroup  string
	Location       string
	TenantID       string
}

const maxGroups = 1000

// Detect says whether a document looks like a template.
func Detect(root *doc.Value) bool {
	return root.Fold("resources") != nil
}

// Read reads the groups of a template, in its order.
func Read(ctx context.Context, root *doc.Value, o Options, w *spec.Warnings) ([]spec.Group, error) {
	values := map[string]*doc.Value{}
	for _, file := range o.ParameterFiles {
		if err := fileValues(file, values); err != nil {
			return nil, err
		}
	}
	declared := root.Fold("parameters")
	for name, text := range o.Parameters {
		v, err := flagValue(name, text, textOf(declared.Fold(name).Fold("type")))
		if err != nil {
			return nil, err
		}
		values[strings.ToLower(name)] = v
	}
	t, err := newTemplate(root, values, &template{known: known(o), budget: &armexpr.Budget{}, elements: new(int)})
	if err != nil {
		return nil, err
	}
	r := reader{ctx: ctx, options: o, warnings: w}
	if err := r.resources(&frame{t: t}, root.Fold("resources")); err != nil {
		return nil, err
	}
	for _, found := range r.found {
		if err := r.group(found); err != nil {
			return nil, err
		}
	}
	if len(r.groups) == 0 {
		return nil, errors.New("the template has no container group that would be deployed")
	}
	return r.groups, nil
}

// known makes the objects that resourceGroup() and the like return.
func known(o Options) map[string]*doc.Value {
	object := func(pairs ...string) *doc.Value {
		v := &doc.Value{Kind: doc.Object}
		for i := 0; i+1 < len(pairs); i += 2 {
			if pairs[i+1] != "" {
				v.Members = append(v.Members, doc.Member{Key: pairs[i], Value: doc.Str(pairs[i+1])})
			}
		}
		if len(v.Members) == 0 {
			return nil
		}
		return v
	}
	subscription, group := "", ""
	if o.SubscriptionID != "" {
		subscription = "/subscriptions/" + o.SubscriptionID
		if o.ResourceGroup != "" {
			group = subscription + "/resourceGroups/" + o.ResourceGroup
		}
	}
	return map[string]*doc.Value{
		"subscription":  object("id", subscription, "subscriptionId", o.SubscriptionID, "tenantId", o.TenantID),
		"resourcegroup": object("id", group, "name", o.ResourceGroup, "location", o.Location),
		"tenant":        object("tenantId", o.TenantID),
	}
}

type reader struct {
	ctx      context.Context
	options  Options
	warnings *spec.Warnings
	found    []found
	groups   []spec.Group
	unknown  []spec.Warning // of the group that is being read
}

// found is a group or a profile of groups with where it stands.
type found struct {
	frame    *frame
	resource *doc.Value
	profile  bool
}

// resources reads a list of resources, or an object of them (symbolic names).
func (r *reader) resources(f *frame, list *doc.Value) error {
	if list == nil {
		return nil
	}
	resources := list.Items
	for _, m := range list.Members {
		resources = append(resources, m.Value)
	}
	for _, resource := range resources {
		if resource.Kind != doc.Object {
			return resource.Errorf("a resource is an object, not %s", resource.Kind)
		}
		if err := r.resource(f, resource); err != nil {
			return err
		}
	}
	return nil
}

const (
	groupType      = "microsoft.containerinstance/containergroups"
	profileType    = "microsoft.containerinstance/containergroupprofiles"
	deploymentType = "microsoft.resources/deployments"
)

// resource reads a resource of a type that matters, as often as its loop says.
func (r *reader) resource(f *frame, resource *doc.Value) error {
	kind, err := f.get(resource, "type")
	if err != nil {
		return err
	}
	t := strings.ToLower(textOf(kind))
	if t != groupType && t != profileType && t != deploymentType || isTrue(resource.Fold("existing")) {
		return nil
	}
	frames := []*frame{f}
	if l := resource.Fold("copy"); !l.IsNull() {
		name, count, err := f.loopHeader(l)
		if err != nil {
			return err
		}
		frames = nil
		for i := range count {
			frames = append(frames, f.in(name, i))
		}
	}
	for _, at := range frames {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		condition, err := at.get(resource, "condition")
		switch {
		case err != nil:
			return err
		case condition != nil && condition.Kind != doc.Bool:
			return condition.Errorf("a condition is a boolean, not %s", condition.Kind)
		case condition != nil && !condition.True:
			continue
		}
		if t == deploymentType {
			err = r.deployment(at, resource)
		} else {
			err = r.find(at, resource, t == profileType)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) find(f *frame, resource *doc.Value, profile bool) error {
	if len(r.found) == maxGroups {
		return resource.Errorf("the template has more than %d groups", maxGroups)
	}
	r.found = append(r.found, found{f, resource, profile})
	return nil
}

func isTrue(v *doc.Value) bool { return v != nil && v.Kind == doc.Bool && v.True }

// deployment reads a template within the template, as modules are compiled to.
func (r *reader) deployment(f *frame, resource *doc.Value) error {
	properties := resource.Fold("properties")
	inner := properties.Fold("template")
	if inner.IsNull() {
		r.warnings.Add(spec.WarnIgnored, resource.Path, "the template that this deployment links to is not read")
		return nil
	}
	scope, err := f.get(properties.Fold("expressionEvaluationOptions"), "scope")
	if err != nil {
		return err
	}
	if !strings.EqualFold(textOf(scope), "inner") {
		return r.resources(f, inner.Fold("resources"))
	}
	values := map[string]*doc.Value{}
	for _, m := range properties.Fold("parameters").MembersOf() {
		raw := m.Value.Fold("value")
		if raw == nil {
			continue // taken from a key vault: without value
		}
		v, err := f.deep(raw, 0)
		if err != nil {
			if !armexpr.Unknowable(err) {
				return err
			}
			v = &doc.Value{Kind: doc.Unknown, Err: err, Path: raw.Path, Line: raw.Line, Evaluated: true}
		}
		values[strings.ToLower(m.Key)] = v
	}
	t, err := newTemplate(inner, values, f.t)
	if err != nil {
		return err
	}
	return r.resources(&frame{t: t}, inner.Fold("resources"))
}
