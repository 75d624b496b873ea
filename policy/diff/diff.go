// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"bytes"
	"context"
	"fmt"

	"cofferdam.dev/policy/engine"
	"cofferdam.dev/policy/outline"
	"cofferdam.dev/policy/replay"
)

// Relation is how the first policy stands to the second.
type Relation string

// The relations. The zero value says nothing.
const (
	Equal        Relation = "equal"        // they admit the same
	Narrower     Relation = "narrower"     // the first admits less
	Wider        Relation = "wider"        // the first admits more
	Incomparable Relation = "incomparable" // each admits something that the other does not
	Undecided    Relation = "undecided"
)

// Result is the outcome of a comparison.
type Result struct {
	Relation Relation `json:"relation"`
	SameText bool     `json:"same_text"`

	// OnlyFirst is what the first policy admits and the second does not; OnlySecond the other way. Nil if none was found.
	OnlyFirst  *Witness `json:"only_first,omitempty"`
	OnlySecond *Witness `json:"only_second,omitempty"`

	// FirstInSecond says that the second admits all that the first does; SecondInFirst the other way. Both are shown.
	FirstInSecond bool `json:"first_in_second"`
	SecondInFirst bool `json:"second_in_first"`

	// Changes are the differences of the texts, field by field, from the first to the second.
	Changes []Change `json:"changes,omitempty"`

	// Notes say why something could not be decided, and what was left out of the comparison.
	Notes []string `json:"notes,omitempty"`
}

// Witness is a sequence of requests, or a connection of a container.
type Witness struct {
	What  string        `json:"what"` // the last request in words
	Steps []replay.Step `json:"steps"`

	// Connection, if set, is what the difference is, in place of requests.
	Connection *Connection `json:"connection,omitempty"`

	// Streams is true when the difference is that the process's standard streams are withheld.
	Streams bool `json:"streams,omitempty"`

	// Reasons are those of the policy that does not admit the last request.
	Reasons []string `json:"reasons,omitempty"`
}

// Compare compares two policies.
func Compare(ctx context.Context, first, second []byte) (*Result, error) {
	a, err := load(first)
	if err != nil {
		return nil, fmt.Errorf("first policy: %w", err)
	}
	b, err := load(second)
	if err != nil {
		return nil, fmt.Errorf("second policy: %w", err)
	}
	r := &Result{SameText: bytes.Equal(first, second)}
	if r.SameText {
		r.FirstInSecond, r.SecondInFirst, r.Relation = true, true, Equal
		return r, nil
	}
	r.Changes = changes(a.outline, b.outline)
	var why, whyNot string
	if why = a.within(b); why == "" {
		r.FirstInSecond = true
	} else if r.OnlyFirst, err = a.beyond(ctx, b); err != nil {
		return nil, err
	}
	if whyNot = b.within(a); whyNot == "" {
		r.SecondInFirst = true
	} else if r.OnlySecond, err = b.beyond(ctx, a); err != nil {
		return nil, err
	}
	if !r.FirstInSecond && r.OnlyFirst == nil {
		r.Notes = append(r.Notes, "whether the second admits all that the first does is undecided: "+why)
	}
	if !r.SecondInFirst && r.OnlySecond == nil {
		r.Notes = append(r.Notes, "whether the first admits all that the second does is undecided: "+whyNot)
	}
	if len(a.outline.Fragments)+len(b.outline.Fragments) > 0 {
		r.Notes = append(r.Notes, "fragments count as what may be loaded; what they hold is not known")
	}
	r.Relation = relation(r)
	return r, nil
}

func relation(r *Result) Relation {
	switch {
	case r.FirstInSecond && r.SecondInFirst:
		return Equal
	case r.FirstInSecond && r.OnlySecond != nil:
		return Narrower
	case r.SecondInFirst && r.OnlyFirst != nil:
		return Wider
	case r.OnlyFirst != nil && r.OnlySecond != nil:
		return Incomparable
	}
	return Undecided
}

// side is one of the two policies.
type side struct {
	outline *outline.Outline
	engine  *engine.Engine        // has been asked things; witnesses are held against fresh ones
	asked   int                   // numbers what is asked about
	open    map[engine.Point]bool // points that allow what nothing lists
}

func load(text []byte) (*side, error) {
	o, err := outline.Read(text)
	if err != nil {
		return nil, err
	}
	e, err := newEngine(text)
	if err != nil {
		return nil, err
	}
	s := &side{outline: o, engine: e, open: map[engine.Point]bool{}}
	for _, p := range strangers() {
		d, err := e.Decide(context.Background(), p.Name, p.Complete().Input)
		s.open[p.Name] = err == nil && d.Allowed
	}
	return s, nil
}
