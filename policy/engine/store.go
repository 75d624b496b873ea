// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"fmt"
	"strconv"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// store serves the framework's base documents: the mounts given at load time, the facts computed from policy and
// fragments, and the state. It is read-only for rules. Values stay in OPA's own representation, so that a decision
// converts nothing but its input.
type store struct {
	storage.WritesNotSupported
	storage.PolicyNotSupported
	storage.TriggersNotSupported

	docs  map[string]ast.Value // facts, defaultMounts, privilegedMounts
	state *state
}

var _ storage.Store = (*store)(nil)

type transaction struct{}

func (transaction) ID() uint64 { return 1 }

// NewTransaction implements storage.Store; the engine's lock already gives one consistent view.
func (s *store) NewTransaction(context.Context, ...storage.TransactionParams) (storage.Transaction, error) {
	return transaction{}, nil
}

// Commit implements storage.Store.
func (s *store) Commit(context.Context, storage.Transaction) error { return nil }

// Abort implements storage.Store.
func (s *store) Abort(context.Context, storage.Transaction) {}

// Truncate implements storage.Store.
func (s *store) Truncate(context.Context, storage.Transaction, storage.TransactionParams, storage.Iterator) error {
	return &storage.Error{Code: storage.WritesNotSupportedErr, Message: "read-only"}
}

// Read implements storage.Store.
func (s *store) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	if len(path) == 0 {
		return nil, notFound(path)
	}
	var v ast.Value
	rest := path[1:]
	if path[0] == metadataDoc {
		v, rest = s.state.read(rest)
	} else {
		v = s.docs[path[0]]
	}
	for _, key := range rest {
		if v == nil {
			break
		}
		v = child(v, key)
	}
	if v == nil {
		return nil, notFound(path)
	}
	return v, nil
}

func child(v ast.Value, key string) ast.Value {
	switch v := v.(type) {
	case ast.Object:
		if t := v.Get(ast.StringTerm(key)); t != nil {
			return t.Value
		}
	case ast.Set:
		if t := ast.StringTerm(key); v.Contains(t) {
			return t.Value
		}
	case *ast.Array:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < v.Len() {
			return v.Elem(i).Value
		}
	}
	return nil
}

func notFound(path storage.Path) error {
	return &storage.Error{Code: storage.NotFoundErr, Message: path.String()}
}

// metadataDoc is the name under which rules read the state.
const metadataDoc = "metadata"

// state is what earlier decisions left. Every change can be undone, in reverse order.
type state struct {
	maps map[string]map[string]*ast.Term
	docs map[string]ast.Object // maps as documents, made when a rule reads a whole one
	undo []func()
}

func newState() *state {
	return &state{maps: map[string]map[string]*ast.Term{}, docs: map[string]ast.Object{}}
}

// read resolves metadata.NAME[.KEY] and returns what of the path is left.
func (s *state) read(path storage.Path) (ast.Value, storage.Path) {
	switch len(path) {
	case 0:
		all := ast.NewObject()
		for name := range s.maps {
			all.Insert(ast.StringTerm(name), ast.NewTerm(s.doc(name)))
		}
		return all, nil
	case 1:
		if _, ok := s.maps[path[0]]; !ok {
			return nil, nil
		}
		return s.doc(path[0]), nil
	}
	if t := s.maps[path[0]][path[1]]; t != nil {
		return t.Value, path[2:]
	}
	return nil, nil
}

func (s *state) doc(name string) ast.Object {
	if d := s.docs[name]; d != nil {
		return d
	}
	d := ast.NewObject()
	for k, v := range s.maps[name] {
		d.Insert(ast.StringTerm(k), v)
	}
	s.docs[name] = d
	return d
}

// change is one entry of an answer's "metadata".
type change struct {
	name, action, key string
	value             *ast.Term
}

// apply makes all changes or none.
func (s *state) apply(changes []change) error {
	mark := s.mark()
	for _, c := range changes {
		if err := s.applyOne(c); err != nil {
			s.rollback(mark)
			return err
		}
	}
	return nil
}

func (s *state) applyOne(c change) error {
	old := s.maps[c.name][c.key]
	switch {
	case c.action == "add" && old != nil:
		return fmt.Errorf("%s already has %q", c.name, c.key)
	case c.action == "remove" && old == nil:
		return fmt.Errorf("%s has no %q", c.name, c.key)
	case c.action == "add", c.action == "update":
		if c.value == nil {
			return fmt.Errorf("change of %s %q has no value", c.name, c.key)
		}
		s.set(c.name, c.key, c.value)
	case c.action == "remove":
		s.set(c.name, c.key, nil)
	default:
		return fmt.Errorf("action %q on %s is unknown", c.action, c.name)
	}
	s.undo = append(s.undo, func() { s.set(c.name, c.key, old) })
	return nil
}

func (s *state) set(name, key string, value *ast.Term) {
	delete(s.docs, name)
	if value == nil {
		delete(s.maps[name], key)
		return
	}
	if s.maps[name] == nil {
		s.maps[name] = map[string]*ast.Term{}
	}
	s.maps[name][key] = value
}

func (s *state) mark() int { return len(s.undo) }

func (s *state) rollback(mark int) {
	for i := len(s.undo) - 1; i >= mark; i-- {
		s.undo[i]()
	}
	s.undo = s.undo[:mark]
}

// keep forgets how to undo what happened so far.
func (s *state) keep() { s.undo = nil }
