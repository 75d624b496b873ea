// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec/doc"
)

type evaluator struct {
	scope  Scope
	budget *Budget
	text   string // the whole expression, for messages
}

func (ev *evaluator) unknown(format string, args ...any) error {
	return &UnknownError{Expression: ev.text, Reason: fmt.Sprintf(format, args...)}
}

func (ev *evaluator) eval(e *expr) (*doc.Value, error) {
	v, err := ev.node(e)
	switch {
	case err != nil:
		return nil, err
	case v.Kind == doc.Unknown:
		return nil, v.Err
	}
	return v, ev.budget.step(v)
}

func (ev *evaluator) node(e *expr) (*doc.Value, error) {
	switch e.kind {
	case stringExpr:
		return doc.Str(e.text), nil
	case numberExpr:
		return doc.Int(e.n), nil
	case callExpr:
		return ev.call(e)
	}
	base, err := ev.eval(e.base)
	if err != nil {
		return nil, err
	}
	if e.kind == memberExpr {
		return member(base, e.text)
	}
	index, err := ev.eval(e.index)
	if err != nil {
		return nil, err
	}
	if index.Kind == doc.String {
		return member(base, index.Text)
	}
	i, err := integer(index)
	switch {
	case err != nil:
		return nil, err
	case base.Kind != doc.Array:
		return nil, fmt.Errorf("item %d is asked of %s", i, base.Kind)
	case i < 0 || i >= int64(len(base.Items)):
		return nil, fmt.Errorf("item %d is asked of a list of %d", i, len(base.Items))
	}
	return base.Items[i], nil
}

func member(base *doc.Value, name string) (*doc.Value, error) {
	if base.Kind != doc.Object {
		return nil, fmt.Errorf("property %q is asked of %s", name, base.Kind)
	}
	v := base.Fold(name)
	if v == nil {
		return nil, fmt.Errorf("there is no property %q", name)
	}
	return v, nil
}

// call evaluates a function. Those that need not see all their arguments come first.
func (ev *evaluator) call(e *expr) (*doc.Value, error) {
	name := strings.ToLower(e.text)
	switch name {
	case "if":
		return ev.conditional(e.args)
	case "and", "or":
		return ev.logical(name, e.args)
	case "coalesce":
		return ev.coalesce(e.args)
	}
	f, ok := functions[name]
	surroundings := scopeFunctions[name]
	if !ok && !surroundings {
		return nil, ev.notOffline(e.text)
	}
	args := make([]*doc.Value, 0, len(e.args))
	for _, a := range e.args {
		v, err := ev.eval(a)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	if surroundings {
		return ev.surroundings(e.text, args)
	}
	if len(args) < f.min || f.max >= 0 && len(args) > f.max {
		return nil, fmt.Errorf("%s() is called with %d arguments", e.text, len(args))
	}
	if !keepsParts[name] {
		for _, a := range args {
			if err := ev.known(a); err != nil {
				return nil, err
			}
		}
	}
	v, err := f.do(args)
	if err != nil {
		return nil, fmt.Errorf("%s(): %w", e.text, err)
	}
	return v, nil
}

// keepsParts are the functions that do not look into the parts of their arguments, which may thus be unknown.
var keepsParts = map[string]bool{
	"array": true, "concat": true, "createarray": true, "createobject": true, "empty": true, "first": true,
	"flatten": true, "last": true, "length": true, "skip": true, "take": true,
}

// known refuses values with unknown parts.
func (ev *evaluator) known(v *doc.Value) error {
	if v.Kind == doc.Unknown {
		return v.Err
	}
	if err := ev.budget.step(nil); err != nil {
		return err
	}
	for _, w := range v.Items {
		if err := ev.known(w); err != nil {
			return err
		}
	}
	for _, m := range v.Members {
		if err := ev.known(m.Value); err != nil {
			return err
		}
	}
	return nil
}

// notOffline explains why a function is not evaluated.
func (ev *evaluator) notOffline(name string) error {
	lower := strings.ToLower(name)
	switch {
	case lower == "reference" || lower == "references" || strings.HasPrefix(lower, "list"):
		return ev.unknown("%s() asks a deployed resource", name)
	case lower == "utcnow" || lower == "newguid" || strings.HasPrefix(lower, "datetime"):
		return ev.unknown("%s() is different at each deployment", name)
	case strings.Contains(name, "."):
		return ev.unknown("functions that a template defines, such as %s(), are not supported", name)
	}
	return ev.unknown("function %s() is not supported", name)
}

func (ev *evaluator) conditional(args []*expr) (*doc.Value, error) {
	if len(args) != 3 {
		return nil, fmt.Errorf("if() is called with %d arguments", len(args))
	}
	c, err := ev.eval(args[0])
	switch {
	case err != nil:
		return nil, err
	case c.Kind != doc.Bool:
		return nil, fmt.Errorf("if(): the condition is %s", c.Kind)
	case c.True:
		return ev.eval(args[1])
	}
	return ev.eval(args[2])
}

func (ev *evaluator) logical(name string, args []*expr) (*doc.Value, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("%s() is called with %d arguments", name, len(args))
	}
	for _, a := range args {
		v, err := ev.eval(a)
		switch {
		case err != nil:
			return nil, err
		case v.Kind != doc.Bool:
			return nil, fmt.Errorf("%s(): an argument is %s", name, v.Kind)
		case v.True == (name == "or"):
			return v, nil
		}
	}
	return doc.Boolean(name == "and"), nil
}

func (ev *evaluator) coalesce(args []*expr) (*doc.Value, error) {
	if len(args) == 0 {
		return nil, errors.New("coalesce() is called without arguments")
	}
	for _, a := range args {
		v, err := ev.eval(a)
		if err != nil || v.Kind != doc.Null {
			return v, err
		}
	}
	return &doc.Value{}, nil
}

// scopeFunctions are those that Scope answers.
var scopeFunctions = map[string]bool{
	"parameters": true, "variables": true, "copyindex": true, "resourceid": true, "subscriptionresourceid": true,
	"resourcegroup": true, "subscription": true, "tenant": true, "deployment": true, "environment": true,
	"managementgroup": true,
}

func (ev *evaluator) surroundings(name string, args []*doc.Value) (*doc.Value, error) {
	switch lower := strings.ToLower(name); lower {
	case "parameters", "variables":
		if len(args) != 1 || args[0].Kind != doc.String {
			return nil, fmt.Errorf("%s() needs one name", name)
		}
		if lower == "parameters" {
			return ev.scope.Parameter(args[0].Text)
		}
		return ev.scope.Variable(args[0].Text)
	case "copyindex":
		return ev.copyIndex(args)
	case "resourceid", "subscriptionresourceid":
		return ev.resourceID(lower, args)
	default:
		if len(args) != 0 {
			return nil, fmt.Errorf("%s() takes no arguments", name)
		}
		if v := ev.scope.Known(lower); v != nil {
			return v, nil
		}
		return nil, ev.unknown("%s() is known to the deployment", name)
	}
}

// copyIndex is copyIndex(), copyIndex(offset), copyIndex(loop) or copyIndex(loop, offset).
func (ev *evaluator) copyIndex(args []*doc.Value) (*doc.Value, error) {
	loop := ""
	if len(args) > 0 && args[0].Kind == doc.String {
		loop, args = args[0].Text, args[1:]
	}
	var offset int64
	var err error
	if len(args) > 0 {
		if offset, err = integer(args[0]); err != nil {
			return nil, fmt.Errorf("copyIndex(): %w", err)
		}
	}
	if len(args) > 1 {
		return nil, errors.New("copyIndex() is called with too many arguments")
	}
	i, err := ev.scope.CopyIndex(loop)
	if err != nil {
		return nil, err
	}
	return doc.Int(int64(i) + offset), nil
}

// resourceID joins types and names. Leading arguments without a slash are a subscription and a resource group.
func (ev *evaluator) resourceID(function string, args []*doc.Value) (*doc.Value, error) {
	parts, err := stringsOf(args)
	if err != nil {
		return nil, err
	}
	typeAt := 0
	for typeAt < len(parts) && !strings.Contains(parts[typeAt], "/") {
		typeAt++
	}
	groups := 2
	if function == "subscriptionresourceid" {
		groups = 1
	}
	if typeAt > groups || typeAt == len(parts) {
		return nil, fmt.Errorf("%s() needs a resource type and its names", function)
	}
	tail, err := providerPath(parts[typeAt], parts[typeAt+1:])
	if err != nil {
		return nil, fmt.Errorf("%s(): %w", function, err)
	}
	given := parts[:typeAt]
	group := ""
	if groups == 2 {
		if len(given) == 0 {
			v := ev.scope.Known("resourcegroup").Fold("name")
			if v == nil {
				return nil, ev.unknown("the resource group is known to the deployment")
			}
			group = v.Text
		} else {
			group, given = given[len(given)-1], given[:len(given)-1]
		}
		group = "/resourceGroups/" + group
	}
	subscription := ""
	if len(given) > 0 {
		subscription = given[0]
	} else if v := ev.scope.Known("subscription").Fold("subscriptionId"); v != nil {
		subscription = v.Text
	} else {
		return nil, ev.unknown("the subscription is known to the deployment")
	}
	return doc.Str("/subscriptions/" + subscription + group + tail), nil
}

// providerPath is /providers/NAMESPACE/TYPE/NAME/SUBTYPE/NAME…
func providerPath(kind string, names []string) (string, error) {
	types := strings.Split(kind, "/")
	if len(types)-1 != len(names) {
		return "", fmt.Errorf("type %q needs %s names, not %d", kind, strconv.Itoa(len(types)-1), len(names))
	}
	path := "/providers/" + types[0]
	for i, name := range names {
		path += "/" + types[i+1] + "/" + name
	}
	return path, nil
}
