// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ template, path, want string }{
		"empty":      {`{"resources":[{"properties":{"confidentialComputeProperties":{"ccePolicy":""}}}]}`, "$.resources[0]", `{"resources":[{"properties":{"confidentialComputeProperties":{"ccePolicy":"QUE="}}}]}`},
		"null":       {`{"properties":{"confidentialComputeProperties":{"ccePolicy":null}}}`, "$", `{"properties":{"confidentialComputeProperties":{"ccePolicy":"QUE="}}}`},
		"other case": {`{"Resources":[{"PROPERTIES":{"confidentialcomputeproperties":{"CCEPOLICY":"old"}}}]}`, "$.resources[0]", `{"Resources":[{"PROPERTIES":{"confidentialcomputeproperties":{"CCEPOLICY":"QUE="}}}]}`},
		"second group, comments and odd layout": {
			"// a \"comment\"\r\n{ \"resources\" :[ {\"properties\":{\"x\":\"}]\\\"\"}}, /* two */ {\t\"properties\": {\r\n  \"confidentialComputeProperties\" : { \"ccePolicy\" :\t\"b2xk\" , \"z\": [1,-2e3,true] } } } ]}\r\n",
			"$.resources[1]",
			"// a \"comment\"\r\n{ \"resources\" :[ {\"properties\":{\"x\":\"}]\\\"\"}}, /* two */ {\t\"properties\": {\r\n  \"confidentialComputeProperties\" : { \"ccePolicy\" :\t\"QUE=\" , \"z\": [1,-2e3,true] } } } ]}\r\n",
		},
		"named resources": {`{"resources":{"my-group":{"properties":{"confidentialComputeProperties":{"ccePolicy":""}}}}}`, `$.resources["my-group"]`, `{"resources":{"my-group":{"properties":{"confidentialComputeProperties":{"ccePolicy":"QUE="}}}}}`},
		"no policy":       {"{\n  \"properties\": {\n    \"confidentialComputeProperties\": {\n    },\n    \"a\": 1\n  }\n}", "$", "{\n  \"properties\": {\n    \"confidentialComputeProperties\": {\"ccePolicy\": \"QUE=\"\n    },\n    \"a\": 1\n  }\n}"},
		"not confidential": {"{\n  \"properties\": {\n    \"a\": 1\n  }\n}", "$",
			"{\n  \"properties\": {\n    \"confidentialComputeProperties\": {\"ccePolicy\": \"QUE=\"},\n    \"a\": 1\n  }\n}"},
		"comment first": {"{\n  \"properties\": { // here\n    \"a\": 1\n  }\n}", "$",
			"{\n  \"properties\": {\n    \"confidentialComputeProperties\": {\"ccePolicy\": \"QUE=\"}, // here\n    \"a\": 1\n  }\n}"},
		"no properties": {`{"a":1}`, "$", `{"properties": {"confidentialComputeProperties": {"ccePolicy": "QUE="}},"a":1}`},
		"byte order mark": {"\xef\xbb\xbf" + `{"properties":{"confidentialComputeProperties":{"ccePolicy":""}}}`, "$",
			"\xef\xbb\xbf" + `{"properties":{"confidentialComputeProperties":{"ccePolicy":"QUE="}}}`},
		"escaped bracket": {`{"properties":{"confidentialComputeProperties":{"ccePolicy":"[[x]"}}}`, "$", `{"properties":{"confidentialComputeProperties":{"ccePolicy":"QUE="}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := []byte(c.template)
			got, err := Policy(before, c.path, "QUE=")
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if string(before) != c.template {
				t.Error("the input was changed")
			}
		})
	}
}

func TestPolicyRefuses(t *testing.T) {
	t.Parallel()
	deep := `{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `,"properties":{}}`
	for name, c := range map[string]struct{ template, path, value, want string }{
		"no such item":     {`{"resources":[{}]}`, "$.resources[1]", "", "has no item 1"},
		"no such name":     {`{"a":1}`, "$.resources[0]", "", "there is no resources"},
		"no list":          {`{"resources":1}`, "$.resources[0]", "", "expected a list"},
		"no object":        {`{"properties":"[variables('p')]"}`, "$", "", "line 1: expected an object with confidentialComputeProperties"},
		"number":           {`{"properties":{"confidentialComputeProperties":{"ccePolicy":1}}}`, "$", "", "expected a string"},
		"not base64":       {`{}`, "$", `"`, "not in base64"},
		"path":             {`{}`, "resources", "", "is not a path"},
		"path name":        {`{}`, "$..a", "", "is not a path"},
		"path index":       {`{}`, "$[x]", "", "is not a path"},
		"path open":        {`{}`, `$["x"`, "", "is not a path"},
		"open comment":     {"{\n/* ", "$", "", "line 2: a comment does not end"},
		"open string":      {`{"a`, "$", "", "a string does not end"},
		"missing comma":    {`{"a":1 "b":2}`, "$", "", "expected a comma"},
		"not a value":      {`{"a":nope}`, "$", "", "expected a value"},
		"too deep":         {deep, "$", "", "nested more than"},
		"nothing":          {"", "$", "", "expected an object"},
		"truncated escape": {`{"a\`, "$", "", "does not end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			value := c.value
			if value == "" {
				value = "QUE="
			}
			_, err := Policy([]byte(c.template), c.path, value)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	_, err := Policy([]byte(`{"properties":{"confidentialComputeProperties":{"ccePolicy":"[parameters('p')]"}}}`), "$", "QUE=")
	if !errors.Is(err, ErrExpression) || !strings.Contains(err.Error(), "parameters('p')") {
		t.Errorf("error %v, want one that names the expression", err)
	}
}

// TestTemplates changes the stored templates, and nothing of them but the value.
func TestTemplates(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(testcap.Vectors(t, "confcom/aci"), "*", "arm_template.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no templates: %v", err)
	}
	for _, file := range files {
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Policy(before, "$.resources[0]", "QUE=")
		if err != nil {
			t.Fatal(err)
		}
		head := 0
		for before[head] == after[head] {
			head++
		}
		tail := 0
		for before[len(before)-1-tail] == after[len(after)-1-tail] {
			tail++
		}
		if got := string(after[head-1 : len(after)-tail]); !strings.Contains("\"QUE=", got) {
			t.Errorf("%s: changed to %q", file, got)
		}
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add([]byte(`{"resources":[{"properties":{"confidentialComputeProperties":{"ccePolicy":""}}}]}`), "$.resources[0]")
	f.Add([]byte("{ // x\n\"properties\":{\"a\":[1,{}]}}"), "$")
	f.Add([]byte(`{"a":{"properties":{}}}`), `$["a"]`)
	f.Fuzz(func(t *testing.T, template []byte, path string) {
		out, err := Policy(template, path, "QUE=")
		if err != nil {
			return
		}
		again, err := Policy(out, path, "QUE=")
		if err != nil || !bytes.Equal(out, again) {
			t.Errorf("written twice: %v\n%q\n%q", err, out, again)
		}
		if json.Valid(template) && !json.Valid(out) {
			t.Errorf("a template that is JSON became one that is not: %q", out)
		}
	})
}
