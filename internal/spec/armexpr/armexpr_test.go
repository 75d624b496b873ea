// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"cofferdam.dev/internal/spec/doc"
)

type scope map[string]*doc.Value

func (s scope) Parameter(name string) (*doc.Value, error) {
	if v := s[strings.ToLower(name)]; v != nil {
		return v, nil
	}
	return nil, &MissingParameterError{Name: name}
}

func (s scope) Variable(name string) (*doc.Value, error) {
	if v := s[strings.ToLower(name)]; v != nil {
		return v, nil
	}
	return nil, errors.New("no such variable")
}

func (s scope) CopyIndex(name string) (int, error) {
	if name == "other" {
		return 7, nil
	}
	return 2, nil
}

func (s scope) Known(function string) *doc.Value { return s["known:"+function] }

func testScope(t *testing.T) scope {
	t.Helper()
	parse := func(text string) *doc.Value {
		v, err := doc.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	part := parse(`{"fine": "yes", "dim": null, "list": ["a", "b"]}`)
	part.Members[1].Value = &doc.Value{Kind: doc.Unknown, Err: &UnknownError{Expression: "[x()]", Reason: "hidden"}}
	return scope{
		"p": doc.Str("param"), "n": doc.Int(5), "o": parse(`{"a": {"B": [10, 20]}, "c d": true}`), "part": part,
		"l": parse(`["x","y","x"]`), "known:resourcegroup": parse(`{"name": "rg", "id": "/rg"}`),
		"known:subscription": parse(`{"subscriptionId": "sub"}`),
	}
}

// show writes a value as compact JSON.
func show(t *testing.T, v *doc.Value) string {
	t.Helper()
	var b bytes.Buffer
	if err := writeJSON(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestFunctions(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`'it''s'`: `"it's"`, `-3`: `-3`, ` parameters( 'P' ) `: `"param"`, `variables('o').a.b[1]`: `20`,
		`variables('o')['c d']`: `true`, `true()`: `true`, `False()`: `false`, `null()`: `null`,
		`if(true(), 'a', nosuch())`: `"a"`, `if(false(), nosuch(), 1)`: `1`, `and(true(), false(), nosuch())`: `false`,
		`or(false(), true())`: `true`, `and(true(), true())`: `true`, `not(false())`: `true`, `coalesce(null(), 'x', nosuch())`: `"x"`,
		`equals('a', 'A')`: `false`, `equals(createArray(1, 'b'), createArray(1, 'b'))`: `true`, `equals(1, '1')`: `false`,
		`less(1, 2)`: `true`, `lessOrEquals(2, 2)`: `true`, `greater('b', 'a')`: `true`, `greaterOrEquals(1, 2)`: `false`,
		`add(2, -3)`: `-1`, `sub(2, 3)`: `-1`, `mul(4, 5)`: `20`, `div(-7, 2)`: `-3`, `mod(-7, 2)`: `-1`,
		`min(3, 1, 2)`: `1`, `max(createArray(3, 9, 2))`: `9`, `int('42')`: `42`, `int(7)`: `7`,
		`bool('TRUE')`: `true`, `bool(0)`: `false`, `bool('1')`: `true`, `string(5)`: `"5"`, `string(true())`: `"True"`,
		`string(createObject('a', createArray(1, 'x<')))`: `"{\"a\":[1,\"x<\"]}"`, `json('{"a": [1]}').a[0]`: `1`,
		`array('x')`: `["x"]`, `array(createArray(1))`: `[1]`, `createObject()`: `{}`, `range(3, 2)`: `[3,4]`,
		`flatten(createArray(createArray(1), createArray(2, 3)))`: `[1,2,3]`, `union(variables('l'), createArray('z'))`: `["x","y","z"]`,
		`union(createObject('a', createObject('b', 1)), createObject('a', createObject('c', 2)))`: `{"a":{"b":1,"c":2}}`,
		`intersection(variables('l'), createArray('x'))`:                                          `["x"]`, `intersection(createObject('a', 1, 'b', 2), createObject('b', 2))`: `{"b":2}`,
		`items(createObject('b', 1, 'a', 2))[0].key`: `"a"`, `concat('a', 1, true())`: `"a1True"`, `concat(createArray(1), createArray(2))`: `[1,2]`,
		`concat()`: `""`, `contains('abc', 'b')`: `true`, `contains(variables('l'), 'z')`: `false`, `contains(variables('o'), 'A')`: `true`,
		`empty('')`: `true`, `empty(null())`: `true`, `empty(createArray(1))`: `false`, `length('a😀')`: `3`, `length(variables('o'))`: `2`,
		`first('abc')`: `"a"`, `last(variables('l'))`: `"x"`, `first(createArray())`: `null`, `take('abc', 2)`: `"ab"`, `take('abc', -1)`: `""`,
		`skip(variables('l'), 2)`: `["x"]`, `skip('abc', 9)`: `""`, `indexOf('AbC', 'bc')`: `1`, `lastIndexOf('abab', 'AB')`: `2`,
		`indexOf(variables('l'), 'X')`: `-1`, `lastIndexOf(variables('l'), 'x')`: `2`, `indexOf('a', 'abc')`: `-1`,
		`format('{0}-{1:D3}-{{x}}', 'a', 7)`: `"a-007-{x}"`, `format('{0:d2}', -5)`: `"-05"`, `toLower('AbÉ')`: `"abé"`, `toUpper('a')`: `"A"`,
		`trim('  x ')`: `"x"`, `replace('aXbX', 'X', '--')`: `"a--b--"`, `split('a,b;c', createArray(',', ';'))`: `["a","b","c"]`,
		`split('', ',')`: `[""]`, `split('a,', ',')`: `["a",""]`, `join(createArray('a', 1), '-')`: `"a-1"`, `substring('abcd', 1, 2)`: `"bc"`,
		`substring('abcd', 4)`: `""`, `startsWith('Abc', 'aB')`: `true`, `endsWith('abC', 'Bc')`: `true`, `padLeft(7, 3, '0')`: `"007"`,
		`base64('one')`: `"b25l"`, `base64ToString('b25l')`: `"one"`, `base64ToJson(base64('[1]'))[0]`: `1`,
		`uriComponent('a b/é')`: `"a%20b%2F%C3%A9"`, `uriComponentToString('a%20b')`: `"a b"`, `uri('http://x.org/a/', 'b/c')`: `"http://x.org/a/b/c"`,
		`copyIndex()`: `2`, `copyIndex(10)`: `12`, `copyIndex('other')`: `7`, `copyIndex('other', 1)`: `8`,
		`resourceGroup().name`: `"rg"`, `resourceId('A.B/c', 'd')`: `"/subscriptions/sub/resourceGroups/rg/providers/A.B/c/d"`,
		`resourceId('s', 'g', 'A.B/c/e', 'd', 'f')`: `"/subscriptions/s/resourceGroups/g/providers/A.B/c/d/e/f"`,
		`subscriptionResourceId('A.B/c', 'd')`:      `"/subscriptions/sub/providers/A.B/c/d"`, `tenantResourceId('A.B/c', 'd')`: `"/providers/A.B/c/d"`,
		`extensionResourceId('/x', 'A.B/c', 'd')`: `"/x/providers/A.B/c/d"`, `variables('part').fine`: `"yes"`,
		`first(variables('part').list)`: `"a"`, `length(variables('part'))`: `3`, `guid('a', 'b')`: `"` + uuidOfAB + `"`,
	} {
		v, err := Evaluate(in, testScope(t), &Budget{})
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got := show(t, v); got != want {
			t.Errorf("%s = %s, want %s", in, got, want)
		}
	}
}

// uuidOfAB is the name-based UUID (version 5) of a-b, as other implementations of RFC 9562 make it.
const uuidOfAB = "2d796349-8c7e-55ec-9624-54ece82ed031"

func TestMistakes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``: "an expression was expected", `f`: "opening parenthesis", `f(`: "an expression was expected", `'a`: "not closed", `1a`: "expected the end",
		`add(1)`: "called with 1 arguments", `add(1, 'x')`: "a string stands where", `div(1, 0)`: "division by zero",
		`mul(9223372036854775807, 2)`: "64 bits", `int('x')`: "no whole number", `bool('x')`: "neither true nor false",
		`variables('o').nope`: `no property "nope"`, `variables('l')[9]`: "list of 3", `variables('l').a`: "is asked of a list",
		`substring('abc', 2, 5)`: "5 characters from 2", `split(1, ',')`: "string is needed", `createObject('a')`: "has no value",
		`createObject('a', 1, 'A', 2)`: "given twice", `range(0, 10001)`: "at most 10000", `json('{')`: "no JSON", `concat('a', createArray())`: "among strings",
		`concat(createArray(), 'a')`: "a list is needed", `less('B', 'a')`: "not known offline", `union(createObject('a', createArray(1)), createObject('a', createArray(2)))`: "is not known",
		`format('{1}', 'a')`: "names none", `format('{0:N2}', 1)`: "not supported", `format('{')`: "not closed", `format('}')`: "stands alone",
		`take('😀', 1)`: "cut in half", `if('x', 1, 2)`: "the condition is a string", `base64ToString('*')`: "no base64", `resourceId('a')`: "resource type",
		`resourceId('A.B/c')`: "needs 1 names", `replace('a', '', 'b')`: "is empty", `padLeft('a', 3, 'xy')`: "cannot pad", `length(1)`: "has no length",
		`equals(1.5, 1)`: "expected", strings.Repeat("not(", 60) + "true()": "nested more than", strings.Repeat("a", MaxLength+1): "longer than",
		`parameters()`: "one name", `string(null())`: "no text", `first(1)`: "no first", `ns.`: "name",
	} {
		_, err := Evaluate(in, testScope(t), &Budget{})
		if err == nil || !strings.Contains(err.Error(), want) || Unknowable(err) {
			t.Errorf("%.60s: error %v, want one with %q", in, err, want)
		}
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`reference('x').id`: "asks a deployed resource", `listKeys('x', '1').keys[0]`: "asks a deployed resource", `utcNow()`: "different at each deployment",
		`newGuid()`: "different at each deployment", `deployment().name`: "known to the deployment", `my.fn(1)`: "functions that a template defines",
		`map(variables('l'), 1)`: "not supported", `parameters('missing')`: `"missing" has neither`, `concat('a', reference('x'))`: "asks a deployed",
		`variables('part').dim`: "hidden", `string(variables('part'))`: "hidden", `equals(variables('part'), variables('part'))`: "hidden",
		`contains(array(variables('part')), 'x')`: "hidden", `union(variables('part'), createObject())`: "hidden",
	} {
		_, err := Evaluate(in, testScope(t), &Budget{})
		if err == nil || !strings.Contains(err.Error(), want) || !Unknowable(err) {
			t.Errorf("%s: error %v, want an unknowable one with %q", in, err, want)
		}
	}
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][2]string{
		"[a]": {"a", ""}, "[[a]": {"", "[a]"}, "[a": {"", "[a"}, "a[b]": {"", "a[b]"}, "[]": {"", ""}, "": {"", ""}, "[[[a]]": {"", "[[a]]"},
	} {
		e, l, ok := Split(in)
		if e != want[0] || l != want[1] || ok != (strings.HasPrefix(in, "[") && !strings.HasPrefix(in, "[[") && strings.HasSuffix(in, "]")) {
			t.Errorf("%q: %q, %q, %v", in, e, l, ok)
		}
	}
}

func TestBudget(t *testing.T) {
	t.Parallel()
	b := &Budget{}
	s := scope{"v": doc.Str(strings.Repeat("x", 1<<20))}
	e := "concat(" + strings.TrimSuffix(strings.Repeat("variables('v'),", 30), ",") + ")"
	if _, err := Evaluate(e, s, b); err == nil || !strings.Contains(err.Error(), "too much work") {
		t.Errorf("error %v", err)
	}
}

func FuzzEvaluate(f *testing.F) {
	for _, s := range []string{`concat('a', parameters('p'))`, `if(true(),1,2)`, `range(0,3)[1]`, `format('{0:D2}', 3)`, `split('a,b', ',')[0]`, `variables('o').a.b[0]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		s := testScope(t)
		v, err := Evaluate(in, s, &Budget{})
		if err != nil {
			return
		}
		w, err := Evaluate(in, s, &Budget{})
		if err != nil || !equal(v, w) {
			t.Errorf("%s is not deterministic", in)
		}
	})
}
