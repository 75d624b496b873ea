// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// environment are the variables of a container, in order, one for each name. One that is marked as a regular expression
// may have any value; its name is still the plain one.
type environment struct{ list []spec.EnvVar }

func anyValue(name string) spec.EnvVar { return spec.EnvVar{Name: name, Regexp: true} }

// variables are the final ones.
func (e *environment) variables() []spec.EnvVar {
	var out []spec.EnvVar
	for _, v := range e.list {
		if v.Regexp {
			v = spec.Wildcard(v.Name)
		}
		out = append(out, v)
	}
	return out
}

func (e *environment) set(v spec.EnvVar) {
	for i := range e.list {
		if e.list[i].Name == v.Name {
			e.list[i] = v
			return
		}
	}
	e.list = append(e.list, v)
}

func (e *environment) get(name string) (spec.EnvVar, bool) {
	for _, v := range e.list {
		if v.Name == name {
			return v, true
		}
	}
	return spec.EnvVar{}, false
}

// serviceLink matches names of variables that a cluster sets for its services.
var serviceLink = regexp.MustCompile(`^[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)$`)

// errUnknownReference says that a text depends on a variable whose value is not known.
var errUnknownReference = errors.New("it refers to a variable whose value is not known in advance")

// expand puts variables in for $(NAME), as the kubelet does: $$ stands for $, and a name that is not set stays as it is.
func (e *environment) expand(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch s[i+1] {
		case '$':
			b.WriteByte('$')
			i++
		case '(':
			end := strings.IndexByte(s[i:], ')')
			if end < 0 {
				b.WriteByte('$')
				continue
			}
			name := s[i+2 : i+end]
			v, ok := e.get(name)
			switch {
			case ok && v.Regexp || !ok && serviceLink.MatchString(name):
				return "", fmt.Errorf("$(%s): %w", name, errUnknownReference)
			case ok:
				b.WriteString(v.Value)
			default:
				b.WriteString(s[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
		if b.Len() > maxValue {
			return "", fmt.Errorf("it is longer than %d bytes", maxValue)
		}
	}
	return b.String(), nil
}

// maxValue is the longest variable that Linux accepts.
const maxValue = 128 << 10

// environment reads envFrom, and then env, which wins.
func (p *pod) environment(c *doc.Value) (*environment, error) {
	env := &environment{}
	from, err := items(c, "envFrom")
	if err != nil {
		return nil, err
	}
	for _, f := range from {
		if err := p.envFrom(f, env); err != nil {
			return nil, err
		}
	}
	list, err := items(c, "env")
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if err := checkKeys(v, "name", "value", "valueFrom"); err != nil {
			return nil, err
		}
		name, err := text(v, "name")
		if err != nil {
			return nil, err
		}
		if name == "" {
			return nil, v.Errorf("an environment variable has no name")
		}
		if err := p.variable(c, v, name, env); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// placeholder is what the virtual node replaces by a value of its own.
var placeholder = regexp.MustCompile(`^===VIRTUALNODE2\.CC\.THIM\.(.+)===$`)

func (p *pod) variable(c, v *doc.Value, name string, env *environment) error {
	if from := v.Get("valueFrom"); !from.IsNull() {
		if v.Get("value") != nil && v.Get("value").Text != "" {
			return v.Errorf("variable %s has both a value and a source", name)
		}
		return p.valueFrom(c, from, name, env)
	}
	value, err := text(v, "value")
	if err != nil {
		return err
	}
	if p.options.VirtualNode && placeholder.MatchString(value) {
		p.warnings.Add(spec.WarnWildcard, v.Path, "%s is filled in by the virtual node: any value is admitted", name)
		env.set(anyValue(name))
		return nil
	}
	expanded, err := env.expand(value)
	if errors.Is(err, errUnknownReference) {
		return p.wildcard(v, name, err, env)
	}
	if err != nil {
		return v.Errorf("%s: %w", name, err)
	}
	env.set(spec.EnvVar{Name: name, Value: expanded})
	return nil
}

// wildcard admits any value, if that is approved.
func (p *pod) wildcard(v *doc.Value, name string, cause error, env *environment) error {
	if !p.options.AllowWildcards {
		return v.Errorf("%w", &spec.WildcardError{Variable: name, Cause: cause})
	}
	p.warnings.Add(spec.WarnWildcard, v.Path, "any value of %s is admitted: %v", name, cause)
	env.set(anyValue(name))
	return nil
}

// valueFrom reads one value from elsewhere.
func (p *pod) valueFrom(c, from *doc.Value, name string, env *environment) error {
	if len(from.Members) != 1 {
		return from.Errorf("variable %s needs exactly one source", name)
	}
	source := from.Members[0]
	switch source.Key {
	case "configMapKeyRef", "secretKeyRef":
		return p.keyRef(source, name, env)
	case "fieldRef":
		// The pod's fields change with each pod, so there is nothing to approve of.
		p.warnings.Add(spec.WarnWildcard, from.Path, "any value of %s is admitted: it is a field of the running pod", name)
		env.set(anyValue(name))
		return nil
	case "resourceFieldRef":
		value, err := p.resource(c, source.Value)
		if errors.Is(err, errNodeDecides) {
			return p.wildcard(from, name, err, env)
		}
		if err != nil {
			return err
		}
		env.set(spec.EnvVar{Name: name, Value: value})
		return nil
	}
	return from.Errorf("source %q of variable %s is not supported", source.Key, name)
}
