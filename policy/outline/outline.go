// SPDX-License-Identifier: Apache-2.0

package outline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"cofferdam.dev/policy"
)

// Outline is what a text says. Its zero value says nothing.
type Outline struct {
	Text []byte

	// Generated is true when the text has the generated form, and nothing of it went unread.
	Generated bool

	// Rules are the names that the text defines.
	Rules map[string]Rule

	Containers []Container
	Fragments  []Fragment
	TrustLists []TrustList

	// Egress is what containers may connect to; nil if the text sets no limit, or none that could be read.
	Egress *policy.Egress

	// Unread describes what is there and could not be read without evaluating it.
	Unread []Note

	containers span
}

// Note says something about a line.
type Note struct {
	Line int
	Text string
}

// Rule is one name that the text defines.
type Rule struct {
	Line int

	// Framework is true when the rule is data.framework.NAME and nothing else.
	Framework bool

	// Constant is the JSON value, if the rule is a plain constant; nil otherwise.
	Constant json.RawMessage

	span span
}

// Container is one element of the text's list.
type Container struct {
	policy.Container
	Line int
	Raw  json.RawMessage
}

// Fragment is one element of the text's list.
type Fragment struct {
	policy.Fragment
	Line int
	Raw  json.RawMessage
}

// TrustList is one element of the text's list.
type TrustList struct {
	policy.TrustList
	Line int
	Raw  json.RawMessage
}

// span is a piece of the text.
type span struct{ from, to int }

// Read reads a text. An error means that it is no Rego policy at all.
func Read(text []byte) (*Outline, error) {
	if len(text) > policy.MaxTextSize {
		return nil, fmt.Errorf("reading policy: text has %d bytes, at most %d are allowed", len(text), policy.MaxTextSize)
	}
	m, err := ast.ParseModuleWithOpts("policy.rego", string(text), ast.ParserOptions{RegoVersion: ast.RegoV0})
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	if m == nil {
		return nil, errors.New("reading policy: text is empty")
	}
	if want := (ast.Ref{ast.DefaultRootDocument, ast.StringTerm("policy")}); !m.Package.Path.Equal(want) {
		return nil, fmt.Errorf("reading policy: its package is %q, expected \"package policy\"", m.Package.String())
	}
	o := &Outline{Text: text, Rules: map[string]Rule{}}
	_, err = policy.Parse(text)
	o.Generated = err == nil
	aliased := aliases(m)
	for _, r := range m.Rules {
		o.rule(r, aliased)
	}
	o.lists()
	return o, nil
}

// rule notes one rule. A name that is defined in several places, or under conditions, is none of the simple kinds.
func (o *Outline) rule(r *ast.Rule, aliased bool) {
	name := r.Head.Ref()[0].Value.String()
	line := 0
	if r.Location != nil {
		line = r.Location.Row
	}
	if _, again := o.Rules[name]; again {
		o.Rules[name] = Rule{Line: line}
		return
	}
	n := Rule{Line: line}
	if plain(r) {
		n.Framework = !aliased && r.Head.Value.Value.String() == "data.framework."+name
		n.Constant, n.span = constant(o.Text, r.Head.Value)
	}
	o.Rules[name] = n
}

// aliases says whether imports may give names another meaning; those of keywords do not.
func aliases(m *ast.Module) bool {
	return slices.ContainsFunc(m.Imports, func(i *ast.Import) bool {
		path := i.Path.String()
		return i.Alias != "" || !strings.HasPrefix(path, "future.keywords") && path != "rego.v1"
	})
}

// plain says whether a rule is NAME := VALUE, without arguments, conditions or alternatives.
func plain(r *ast.Rule) bool {
	return len(r.Head.Ref()) == 1 && len(r.Head.Args) == 0 && r.Head.Value != nil && r.Else == nil && !r.Default &&
		len(r.Body) == 1 && r.Body[0].Equal(ast.NewExpr(ast.BooleanTerm(true)))
}

// constant reads a value that is written as JSON.
func constant(text []byte, t *ast.Term) (json.RawMessage, span) {
	if t.Location == nil || t.Location.Offset >= len(text) || !t.IsGround() {
		return nil, span{}
	}
	d := json.NewDecoder(bytes.NewReader(text[t.Location.Offset:]))
	var raw json.RawMessage
	if d.Decode(&raw) != nil {
		return nil, span{}
	}
	// What JSON reads must be what Rego reads: "x" and "x"[0] begin alike.
	v, err := ast.ValueFromReader(bytes.NewReader(raw))
	if err != nil || v.Compare(t.Value) != 0 {
		return nil, span{}
	}
	return raw, span{t.Location.Offset, t.Location.Offset + int(d.InputOffset())}
}

// lists reads containers, fragments and trust lists.
func (o *Outline) lists() {
	for _, name := range []string{"platform_rules", "external_processes"} {
		if r, ok := o.Rules[name]; ok && string(r.Constant) != "[]" {
			o.Unread = append(o.Unread, Note{r.Line, name})
		}
	}
	o.list("containers", func(raw json.RawMessage, at int) error {
		c := Container{Raw: raw, Line: o.line(at)}
		err := json.Unmarshal(raw, &c.Container)
		o.Containers = append(o.Containers, c)
		return err
	})
	o.containers = o.Rules["containers"].span
	o.list("fragments", func(raw json.RawMessage, at int) error {
		f := Fragment{Raw: raw, Line: o.line(at)}
		err := json.Unmarshal(raw, &f.Fragment)
		o.Fragments = append(o.Fragments, f)
		return err
	})
	o.list("transparency_trust_lists", func(raw json.RawMessage, at int) error {
		l := TrustList{Raw: raw, Line: o.line(at)}
		err := json.Unmarshal(raw, &l.TrustList)
		o.TrustLists = append(o.TrustLists, l)
		return err
	})
	o.egress()
	slices.SortFunc(o.Unread, func(a, b Note) int { return a.Line - b.Line })
}

// egress reads what containers may connect to, as strictly as the guest does.
func (o *Outline) egress() {
	r, ok := o.Rules[policy.EgressRuleName]
	if !ok {
		return
	}
	e, err := policy.ParseEgress(r.Constant)
	if err != nil {
		o.Unread = append(o.Unread, Note{r.Line, fmt.Sprintf("%s has an unknown form: %v", policy.EgressRuleName, err)})
		return
	}
	o.Egress = e
}

// list reads the elements of a constant list. An element whose form is unknown is kept as far as it was understood.
func (o *Outline) list(name string, read func(json.RawMessage, int) error) {
	r, ok := o.Rules[name]
	if !ok {
		return
	}
	d := json.NewDecoder(bytes.NewReader(r.Constant))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		o.Unread = append(o.Unread, Note{r.Line, name + " is no constant list"})
		return
	}
	for i := 0; d.More(); i++ {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return // not reached: the whole list was decoded before
		}
		at := r.span.from + int(d.InputOffset()) - len(raw)
		if err := read(raw, at); err != nil {
			o.Unread = append(o.Unread, Note{o.line(at), fmt.Sprintf("%s[%d] has an unknown form: %v", name, i, err)})
		}
	}
}

func (o *Outline) line(offset int) int { return 1 + bytes.Count(o.Text[:offset], []byte("\n")) }

// Version returns the constant text of api_version or framework_version, under its present or its older name.
func (o *Outline) Version(name string) (string, int) {
	for _, n := range []string{name, strings.TrimSuffix(name, "_version") + "_svn"} {
		r, ok := o.Rules[n]
		if !ok {
			continue
		}
		var v string
		if json.Unmarshal(r.Constant, &v) != nil {
			return "", r.Line
		}
		return v, r.Line
	}
	return "", 0
}

// Switch returns an allow_… line; off when it is missing or not a constant.
func (o *Outline) Switch(name string) (on bool, line int) {
	r := o.Rules[name]
	return string(r.Constant) == "true", r.Line
}

// With returns the text with other containers in place of its own. It fails when the text has no constant list.
func (o *Outline) With(containers ...json.RawMessage) ([]byte, error) {
	if o.containers == (span{}) {
		return nil, errors.New("the policy has no constant list of containers")
	}
	var list bytes.Buffer
	list.WriteByte('[')
	for i, c := range containers {
		if i > 0 {
			list.WriteByte(',')
		}
		list.Write(c)
	}
	list.WriteByte(']')
	return slices.Concat(o.Text[:o.containers.from], list.Bytes(), o.Text[o.containers.to:]), nil
}
