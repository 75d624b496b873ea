// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := Parse([]byte(` {"a":"x","A":"y","o":{"k":[1,2]},"n":null} `))
	if err != nil {
		t.Fatal(err)
	}
	a, errA := o.Text("a")
	inner, errO := o.Object("o")
	list, errL := inner.List("k", 2)
	if errA != nil || errO != nil || errL != nil || a != "x" || len(list) != 2 || !o.Has("n") || o.Has("b") {
		t.Errorf("a=%q list=%q errors %v, %v, %v", a, list, errA, errO, errL)
	}
	if err := o.Only("a", "A", "o", "n"); err != nil {
		t.Error(err)
	}
	if err := o.Only("a"); err == nil {
		t.Error("an unknown key was let through")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty": "", "array": "[]", "null": "null", "text": `"a"`, "repeated": `{"a":1,"a":1}`, "escaped repetition": `{"a":1,"\u0061":1}`,
		"repeated below": `{"a":[{"b":1,"b":2}]}`, "trailing": `{} {}`, "cut": `{"a":`, "not UTF-8": "{\"\xff\":1}",
		"deep": strings.Repeat(`{"a":`, maxDepth+1) + "1" + strings.Repeat("}", maxDepth+1),
	} {
		if o, err := Parse([]byte(in)); err == nil {
			t.Errorf("%s: became %v", name, o)
		}
	}
}

func TestWrongKinds(t *testing.T) {
	t.Parallel()
	o := Object{"n": json.RawMessage("1"), "null": json.RawMessage("null"), "l": json.RawMessage("[1,2,3]")}
	for _, key := range []string{"n", "null", "absent"} {
		if _, err := o.Text(key); err == nil {
			t.Errorf("%s is a text", key)
		}
		if _, err := o.Object(key); err == nil {
			t.Errorf("%s is an object", key)
		}
		if _, err := o.List(key, 9); err == nil {
			t.Errorf("%s is a list", key)
		}
	}
	if _, err := o.List("l", 2); err == nil {
		t.Error("a list over its limit was let through")
	}
}
