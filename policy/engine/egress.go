// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/policy"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Egress is what the policy lets the group's containers connect to; nil if it sets no limit. Fragments do not change it.
func (e *Engine) Egress() *policy.Egress { return e.egress }

// egress reads the list of a policy. It must be one constant: whoever pins the text's hash has read what is in force.
func egress(m *ast.Module) (*policy.Egress, error) {
	var found *ast.Rule
	for _, r := range m.Rules {
		if ruleName(r) != policy.EgressRuleName {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s is defined twice", policy.EgressRuleName)
		}
		found = r
	}
	if found == nil {
		return nil, nil
	}
	if found.Head.Value == nil {
		return nil, fmt.Errorf("%s has no value", policy.EgressRuleName)
	}
	e, err := egressOf(found)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policy.EgressRuleName, err)
	}
	return e, nil
}

func egressOf(r *ast.Rule) (*policy.Egress, error) {
	if _, ok := r.Head.Value.Value.(*ast.Array); !ok || r.Default || !constant(r) {
		return nil, errors.New("it is no constant list")
	}
	value, err := ast.JSON(r.Head.Value.Value)
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return policy.ParseEgress(data)
}
