// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"cofferdam.dev/verify"
)

// ruleInput is the verdict as JSON has it, with numbers of 64 bits as they are.
func ruleInput(v *verify.Verdict) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var input any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	err = dec.Decode(&input)
	return input, err
}

// inputSchemas tell the compiler what a verdict has. A rule that asks for anything else would never deny, because in Rego
// what is not there is no error but undefined: a slip in one letter would open what the rule was to close. So it does not
// compile.
func inputSchemas() *ast.SchemaSet {
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, inputSchema(reflect.TypeFor[verify.Verdict]()))
	return set
}

// inputSchema is the JSON Schema of a type as encoding/json writes it.
func inputSchema(t reflect.Type) map[string]any {
	if t.Kind() == reflect.Pointer {
		return inputSchema(t.Elem())
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || t == reflect.TypeFor[[]byte]() {
		return map[string]any{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		properties := map[string]any{}
		inputProperties(t, properties)
		return map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	case reflect.Slice, reflect.Array:
		return map[string]any{"type": "array", "items": inputSchema(t.Elem())}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{"type": "number"}
}

// inputProperties adds the members of a struct, and of those embedded in it.
func inputProperties(t reflect.Type, properties map[string]any) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			inputProperties(f.Type, properties)
		case f.IsExported() && name != "" && name != "-":
			properties[name] = inputSchema(f.Type)
		}
	}
}
