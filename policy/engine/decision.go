// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"errors"
	"fmt"
	"slices"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Decision is the answer to one request. Its zero value denies.
type Decision struct {
	Point   Point
	Allowed bool

	// Reasons say why a request was denied: sorted, and at least one whenever Allowed is false.
	Reasons []string

	// Input is what was denied, as the rules saw it; nil when it was allowed, or never became a request.
	Input map[string]any

	// EnvList is what is kept of the requested environment, in the requested order (create and exec points).
	EnvList []string

	// Capabilities are what is kept of the requested capabilities; nil where the point has none.
	Capabilities *policy.Capabilities

	// AllowStdio says whether standard streams may reach the host (create and exec points).
	AllowStdio bool
}

func denied(point Point, reason string) Decision {
	return Decision{Point: point, Reasons: []string{reason}}
}

// answer is what a rule said.
type answer struct {
	allowed bool
	changes []change
	object  ast.Object // nil when the rule is undefined
}

func parseAnswer(v ast.Value) (answer, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return answer{}, fmt.Errorf("rule's value is %s, expected an object", ast.ValueName(v))
	}
	a := answer{object: obj}
	if b, ok := member(obj, "allowed").(ast.Boolean); ok {
		a.allowed = bool(b)
	}
	if !a.allowed {
		return a, nil
	}
	switch list := member(obj, "metadata").(type) {
	case nil:
	case *ast.Array:
		for i := range list.Len() {
			c, err := parseChange(list.Elem(i).Value)
			if err != nil {
				return answer{}, err
			}
			a.changes = append(a.changes, c)
		}
	default:
		return answer{}, errors.New("rule's metadata is no array")
	}
	return a, nil
}

func parseChange(v ast.Value) (change, error) {
	obj, ok := v.(ast.Object)
	if !ok {
		return change{}, errors.New("rule's metadata holds something else than objects")
	}
	var c change
	for name, to := range map[string]*string{"name": &c.name, "action": &c.action, "key": &c.key} {
		s, ok := member(obj, name).(ast.String)
		if !ok {
			return change{}, fmt.Errorf("rule's metadata has no text %q", name)
		}
		*to = string(s)
	}
	c.value = obj.Get(ast.InternedTerm("value"))
	return c, nil
}

// fill reads what an allowed answer says about environment, capabilities and standard streams. A custom rule may leave
// lists out, which keeps everything; it can never add to what was requested.
func (d *Decision) fill(said, input ast.Object) {
	d.EnvList = keep(stringList(member(input, "envList")), member(said, "env_list"))
	if requested, ok := member(input, "capabilities").(ast.Object); ok {
		kept, _ := member(said, "caps_list").(ast.Object)
		set := func(name string) []string {
			all := stringList(member(requested, name))
			if kept == nil {
				return all
			}
			return keep(all, orEmpty(member(kept, name)))
		}
		d.Capabilities = &policy.Capabilities{
			Ambient: set("ambient"), Bounding: set("bounding"), Effective: set("effective"),
			Inheritable: set("inheritable"), Permitted: set("permitted"),
		}
	}
	b, _ := member(said, "allow_stdio_access").(ast.Boolean)
	d.AllowStdio = bool(b)
}

func keep(requested []string, kept ast.Value) []string {
	if _, null := kept.(ast.Null); kept == nil || null {
		return requested
	}
	allowed := stringList(kept)
	return slices.DeleteFunc(requested, func(s string) bool { return !slices.Contains(allowed, s) })
}

func orEmpty(v ast.Value) ast.Value {
	if v == nil {
		return ast.NewArray()
	}
	return v
}

func member(obj ast.Object, name string) ast.Value {
	if obj == nil {
		return nil
	}
	if t := obj.Get(ast.StringTerm(name)); t != nil {
		return t.Value
	}
	return nil
}

// stringList reads an array or set of strings; other elements are left out.
func stringList(v ast.Value) []string {
	var out []string
	add := func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok {
			out = append(out, string(s))
		}
	}
	switch v := v.(type) {
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	}
	return out
}

func reasonList(v ast.Value) []string {
	list := stringList(v)
	slices.Sort(list)
	return slices.Compact(list)
}
