// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// RulesSchema is the schema of a document of rules.
const RulesSchema = "cofferdam.dev/resource-policy/v1"

// Limits of rules.
const (
	// MaxRules bounds a document of rules in bytes.
	MaxRules    = 256 << 10
	maxRules    = 200
	maxPatterns = 50

	rulesPath = "rules"
)

// Rules say to whom resources are released: the first rule whose patterns match a resource decides about it, and without
// one nobody gets it. The zero value has none.
type Rules struct {
	list   []rule
	text   []byte
	digest string
}

// rule is one rule. A pattern is a path, of which each part may be "*" for any.
type rule struct {
	patterns [][]string
	policy   *releasepolicy.Policy
}

// ParseRules reads a document of rules.
func ParseRules(b []byte) (*Rules, error) {
	r, err := parseRules(b)
	if err != nil {
		return nil, fmt.Errorf("reading rules: %w", err)
	}
	return r, nil
}

func parseRules(b []byte) (*Rules, error) {
	if len(b) > MaxRules {
		return nil, fmt.Errorf("they have %d bytes, more than %d", len(b), MaxRules)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := o.Only("schema", "rules"); err != nil {
		return nil, err
	}
	schema, err := o.Text("schema")
	if err != nil {
		return nil, err
	}
	if schema != RulesSchema {
		return nil, fmt.Errorf("schema is %q, not %q", schema, RulesSchema)
	}
	list, err := o.List("rules", maxRules)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	r := &Rules{text: slices.Clone(b), digest: hex.EncodeToString(sum[:])}
	for i, raw := range list {
		one, err := parseRule(raw)
		if err != nil {
			return nil, fmt.Errorf("rules[%d]: %w", i, err)
		}
		r.list = append(r.list, *one)
	}
	return r, nil
}

func parseRule(raw []byte) (*rule, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := o.Only("resources", "policy"); err != nil {
		return nil, err
	}
	patterns, err := o.List("resources", maxPatterns)
	if err != nil {
		return nil, err
	}
	if len(patterns) == 0 {
		return nil, errors.New("it is for no resources")
	}
	var r rule
	for _, p := range patterns {
		text, err := strictjson.Object{"pattern": p}.Text("pattern")
		if err != nil {
			return nil, err
		}
		parts := strings.Split(text, "/")
		for _, part := range parts {
			if len(parts) != 3 || part != "*" && !pathPart.MatchString(part) {
				return nil, fmt.Errorf("%q is no path of a resource, of which each part may be *", text)
			}
		}
		r.patterns = append(r.patterns, parts)
	}
	if r.policy, err = releasepolicy.Parse(o["policy"]); err != nil {
		return nil, err
	}
	return &r, nil
}

// find returns the number of the rule that decides about a resource and its policy, or nil when there is none.
func (r *Rules) find(p Path) (int, *releasepolicy.Policy) {
	parts := []string{p.Repository, p.Type, p.Tag}
	for i, one := range r.list {
		for _, pattern := range one.patterns {
			if slices.EqualFunc(pattern, parts, func(want, got string) bool { return want == "*" || want == got }) {
				return i, one.policy
			}
		}
	}
	return -1, nil
}

// Rules returns the document of rules, or nil when none was ever set.
func (b *Broker) Rules(ctx context.Context) ([]byte, error) {
	r, err := b.currentRules(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Clone(r.text), nil
}

// currentRules reads the rules each time, because another instance may have set them, and parses them when they changed.
func (b *Broker) currentRules(ctx context.Context) (*Rules, error) {
	var text []byte
	err := b.opts.Store.View(ctx, func(r store.Reader) error {
		var err error
		text, err = r.Get(rulesPath)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return &Rules{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the rules: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rules != nil && string(b.rules.text) == string(text) {
		return b.rules, nil
	}
	b.rules, err = ParseRules(text)
	return b.rules, err
}
