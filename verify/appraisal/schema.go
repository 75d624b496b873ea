// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
)

// JSONSchema returns a JSON Schema (draft 7) of appraisal policies, made from the types of this package. It is for
// editors: Parse checks more.
func JSONSchema() ([]byte, error) {
	root := schemaOf(reflect.TypeFor[Policy](), "")
	root["$schema"], root["$id"] = "http://json-schema.org/draft-07/schema#", "https://"+Schema
	root["title"] = "Appraisal policy"
	if properties, ok := root["properties"].(map[string]any); ok {
		if s, ok := properties["schema"].(map[string]any); ok {
			s["const"] = Schema
		}
	}
	b, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding JSON Schema: %w", err)
	}
	return append(b, '\n'), nil
}

func schemaOf(t reflect.Type, tag reflect.StructTag) map[string]any {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s, ok := reflect.Zero(t).Interface().(scalar); ok {
		f := s.form()
		if f.integer {
			return map[string]any{"type": []string{"string", "integer"}, "pattern": f.pattern, "minimum": 0}
		}
		return map[string]any{"type": "string", "pattern": f.pattern}
	}
	switch t.Kind() {
	case reflect.Struct:
		return objectSchema(t)
	case reflect.Map:
		s := map[string]any{"type": "object", "minProperties": 1, "additionalProperties": schemaOf(t.Elem(), "")}
		if names := keySchema(t.Key()); names != nil {
			s["propertyNames"] = names
		}
		return s
	case reflect.Slice:
		s := map[string]any{"type": "array", "items": schemaOf(t.Elem(), tag)}
		if tag.Get("empty") == "" {
			s["minItems"] = 1
		}
		return s
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.String:
		s := map[string]any{"type": "string"}
		if e, ok := reflect.Zero(t).Interface().(enumeration); ok {
			s["enum"] = e.values()
		}
		return s
	}
	most := uint64(1)<<(t.Bits()-1)<<1 - 1
	if limit, err := strconv.ParseUint(tag.Get("max"), 10, 64); err == nil {
		most = limit
	}
	return map[string]any{"type": "integer", "minimum": 0, "maximum": most}
}

// keySchema says what the keys of a mapping look like.
func keySchema(t reflect.Type) map[string]any {
	switch k := reflect.Zero(t).Interface().(type) {
	case scalar:
		return map[string]any{"pattern": k.form().pattern}
	case enumeration:
		return map[string]any{"enum": k.values()}
	}
	return nil
}

func objectSchema(t reflect.Type) map[string]any {
	properties := map[string]any{}
	var required []string
	for i := range t.NumField() {
		f := t.Field(i)
		p := schemaOf(f.Type, f.Tag)
		p["description"] = f.Tag.Get("doc")
		properties[key(f)] = p
		if f.Tag.Get("required") != "" {
			required = append(required, key(f))
		}
	}
	s := map[string]any{"type": "object", "properties": properties, "additionalProperties": false}
	if len(required) > 0 {
		s["required"] = required
	}
	return s
}
