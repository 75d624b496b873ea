// SPDX-License-Identifier: Apache-2.0

package maapolicy

import (
	"encoding/json"
	"fmt"

	"github.com/jmespath-community/go-jmespath/pkg/parsing"
)

// maxQueryWork bounds what a query can make and compare, in bytes of JSON. Its library has no limits of its own, and a few
// characters can ask for a list that doubles forty times; so the bound is computed before anything is evaluated.
const maxQueryWork = 32 << 20

// growth bounds a size by that of the input in bytes of JSON: a times the input, and b.
type growth struct{ a, b float64 }

func (g growth) plus(h growth) growth { return growth{g.a + h.a, g.b + h.b} }

func (g growth) times(k float64) growth { return growth{g.a * k, g.b * k} }

// of is g for an input that is itself bounded by h.
func (g growth) of(h growth) growth { return growth{g.a * h.a, g.a*h.b + g.b} }

// each is g for every element of a list that is bounded by h: the elements together are no larger than the list, and each
// takes two bytes of it at least.
func (g growth) each(h growth) growth { return h.times(g.a + g.b/2) }

// cost is what an expression comes to: the size of its result, and what has to be made and compared on the way.
type cost struct{ size, work growth }

// checkQuery returns an error when a query could do more than maxQueryWork on an input of this size.
func checkQuery(query string, input int) error {
	ast, err := parsing.NewParser().Parse(query)
	if err != nil {
		return err
	}
	m := meter{input: float64(input)}
	c, err := m.expression(&ast)
	if err != nil {
		return err
	}
	if work := c.work.a*m.input + c.work.b; work > maxQueryWork {
		return fmt.Errorf("it could make and compare %.3g bytes of %d, more than %d", work, input, maxQueryWork)
	}
	return nil
}

type meter struct{ input float64 }

// expression measures one node of a query. Whatever it does not know is an error.
func (m *meter) expression(n *parsing.ASTNode) (cost, error) {
	switch n.NodeType {
	case parsing.ASTEmpty, parsing.ASTIdentity, parsing.ASTCurrentNode, parsing.ASTField, parsing.ASTIndex:
		return cost{growth{1, 4}, growth{0, 1}}, nil // 4 for null
	case parsing.ASTSlice:
		return cost{growth{1, 4}, growth{1, 1}}, nil
	case parsing.ASTRootNode:
		return cost{growth{0, m.input}, growth{0, 1}}, nil
	case parsing.ASTLiteral:
		b, err := json.Marshal(n.Value)
		return cost{growth{0, float64(len(b))}, growth{0, 1}}, err
	case parsing.ASTKeyValPair, parsing.ASTExpRef:
		return m.expression(&n.Children[0])
	case parsing.ASTPipe, parsing.ASTSubexpression, parsing.ASTIndexExpression:
		return m.chain(n.Children)
	case parsing.ASTProjection, parsing.ASTValueProjection, parsing.ASTFilterProjection:
		return m.projection(n.Children)
	case parsing.ASTFunctionExpression:
		name, _ := n.Value.(string) // the parser puts nothing else there
		return m.function(name, n.Children)
	case parsing.ASTFlatten, parsing.ASTMultiSelectList, parsing.ASTMultiSelectHash:
		return m.all(n.Children, 8)
	case parsing.ASTOrExpression, parsing.ASTAndExpression:
		return m.all(n.Children, 0)
	case parsing.ASTComparator, parsing.ASTNotExpression:
		c, err := m.all(n.Children, 0)
		return cost{growth{0, truthSize}, c.work}, err
	case parsing.ASTArithmeticExpression, parsing.ASTArithmeticUnaryExpression:
		c, err := m.all(n.Children, 0)
		return cost{growth{0, numberSize}, c.work}, err
	}
	return cost{}, fmt.Errorf("it has an expression that is not available (%s)", n.NodeType)
}

// Sizes of values without content of their own.
const (
	truthSize  = 5
	numberSize = 24
)

// all measures expressions whose results are put together, with so many bytes around each.
func (m *meter) all(children []parsing.ASTNode, around float64) (cost, error) {
	var sum cost
	for i := range children {
		c, err := m.expression(&children[i])
		if err != nil {
			return cost{}, err
		}
		name := 0
		if key, ok := children[i].Value.(string); ok {
			name = 6 * len(key) // as it may be escaped
		}
		sum.size = sum.size.plus(c.size).plus(growth{0, around + float64(name)})
		sum.work = sum.work.plus(c.work)
	}
	sum.work = sum.work.plus(sum.size)
	return sum, nil
}

// chain measures expressions each of which works on the result of the one before.
func (m *meter) chain(children []parsing.ASTNode) (cost, error) {
	sum := cost{size: growth{1, 0}}
	for i := range children {
		c, err := m.expression(&children[i])
		if err != nil {
			return cost{}, err
		}
		sum.work = sum.work.plus(c.work.of(sum.size))
		sum.size = c.size.of(sum.size)
	}
	return sum, nil
}

// projection measures a list, and what is done with each of its elements: the result, and a condition.
func (m *meter) projection(children []parsing.ASTNode) (cost, error) {
	list, err := m.expression(&children[0])
	if err != nil {
		return cost{}, err
	}
	result := cost{size: list.size, work: list.work} // a string is passed on as it is
	for i := range children[1:] {
		c, err := m.expression(&children[1+i])
		if err != nil {
			return cost{}, err
		}
		result.work = result.work.plus(c.work.each(list.size))
		if i == 0 {
			result.size = result.size.plus(c.size.each(list.size))
		}
	}
	result.work = result.work.plus(result.size)
	return result, nil
}

// verdicts are functions that look at their arguments and return a number, a truth value or a name.
var verdicts = map[string]bool{
	"abs": true, "avg": true, "ceil": true, "contains": true, "ends_with": true, "equals_ignore_case": true, "find_first": true,
	"find_last": true, "floor": true, "length": true, "starts_with": true, "sum": true, "to_number": true, "type": true,
}

// function measures a call. Most results are no larger than the arguments, up to quoting: to_string, and split into
// characters, make up to six bytes of one. Sorting compares an element some twenty times.
func (m *meter) function(name string, children []parsing.ASTNode) (cost, error) {
	const quoting, sorting = 6, 20
	args := make([]cost, len(children))
	for i := range children {
		var err error
		if args[i], err = m.expression(&children[i]); err != nil {
			return cost{}, err
		}
	}
	var c cost
	switch {
	case name == "map" && len(args) == 2:
		return m.projection([]parsing.ASTNode{children[1], children[0]})
	case name == "pad_left", name == "pad_right":
		return cost{}, fmt.Errorf("%s is not available", name)
	case name == "join" && len(args) == 2, name == "replace" && len(args) >= 3:
		text, filler := args[0], args[len(args)-1]
		if name == "join" {
			text, filler = args[1], args[0]
		} else {
			filler = args[2]
		}
		if filler.size.a != 0 {
			return cost{}, fmt.Errorf("%s takes a literal for what it puts in", name)
		}
		c.size = text.size.plus(growth{0, 1}).times(quoting * (1 + filler.size.b))
	case verdicts[name]:
		c.size = growth{0, numberSize}
		for i := range args {
			c.work = c.work.plus(args[i].size)
		}
	default:
		for i := range args {
			if children[i].NodeType == parsing.ASTExpRef { // of sort_by and its like, whose list is the first argument
				args[i] = cost{args[i].size.each(args[0].size), args[i].work.each(args[0].size)}
			}
			c.size = c.size.plus(args[i].size.times(quoting)).plus(growth{0, 32})
		}
	}
	for i := range args {
		c.work = c.work.plus(args[i].work)
	}
	if name == "sort" || name == "sort_by" {
		c.work = c.work.plus(c.size.times(sorting / quoting))
	}
	c.work = c.work.plus(c.size)
	return c, nil
}
