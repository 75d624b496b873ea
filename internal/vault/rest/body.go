// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/vault"
)

// members takes members of the right type out of a JSON object, by their names in whatever case: Azure's own clients send
// "Hsm", others "hsm". The first one that is wrong is remembered, and what is taken afterwards counts for nothing. A member
// that is missing or null is nil or empty; members that nobody takes are left alone, as Azure Key Vault does. Errors never
// hold a value.
type members struct {
	within string
	o      strictjson.Object
	err    *error
}

// readBody reads the request's body, an object in which no member occurs twice.
func (c *call) readBody() (members, error) {
	b, err := io.ReadAll(c.r.Body)
	if err != nil {
		return members{}, err
	}
	first := error(nil)
	m := members{"", strictjson.Object{}, &first}
	if len(bytes.TrimSpace(b)) == 0 {
		return m, bad("The request has no body.")
	}
	if m.o, err = parseObject(b); err != nil {
		return m, bad("The body is not a JSON object of the form that is wanted.")
	}
	return m, nil
}

// parseObject reads an object with the names of its members in lower case. A member that occurs twice, be it in another
// case, is an error: two readers could see two requests in it.
func parseObject(b []byte) (strictjson.Object, error) {
	strict, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	o := make(strictjson.Object, len(strict))
	for name, v := range strict {
		folded := strings.ToLower(name)
		if o.Has(folded) {
			return nil, errors.New("a member occurs twice")
		}
		o[folded] = v
	}
	return o, nil
}

func (m members) raw(name string) json.RawMessage { return m.o[strings.ToLower(name)] }

func (m members) fail(name, want string) {
	if *m.err == nil {
		*m.err = bad("The member %s%s of the body is not %s.", m.within, name, want)
	}
}

// has reports whether a member is there and not null.
func (m members) has(name string) bool {
	raw := bytes.TrimSpace(m.raw(name))
	return len(raw) > 0 && string(raw) != "null"
}

// take decodes a member into v. Numbers with fractions and values of other types are errors.
func take[T any](m members, name, want string) *T {
	if !m.has(name) {
		return nil
	}
	v := new(T)
	if err := json.Unmarshal(m.raw(name), v); err != nil {
		m.fail(name, want)
		return nil
	}
	return v
}

func (m members) text(name string) string {
	if s := take[string](m, name, "a string"); s != nil {
		return *s
	}
	return ""
}

// optional is text that tells a missing member from an empty one.
func (m members) optional(name string) *string { return take[string](m, name, "a string") }

func (m members) boolean(name string) *bool { return take[bool](m, name, "true or false") }

func (m members) number(name string) int {
	if n := take[int32](m, name, "a whole number"); n != nil {
		return int(*n)
	}
	return 0
}

// date is seconds since 1970.
func (m members) date(name string) *time.Time {
	n := take[int64](m, name, "a time in seconds since 1970")
	if n == nil {
		return nil
	}
	const most = 253402300799 // the end of the year 9999
	if *n < 0 || *n > most {
		m.fail(name, "a time in seconds since 1970")
		return nil
	}
	t := time.Unix(*n, 0).UTC()
	return &t
}

func (m members) list(name string) []string {
	if l := take[[]string](m, name, "a list of strings"); l != nil {
		return *l
	}
	return nil
}

// tags are a map of strings; nil when they are missing.
func (m members) tags() map[string]string {
	if t := take[map[string]string](m, "tags", "an object of strings"); t != nil {
		return *t
	}
	return nil
}

// object is the members of a member. It has none when that is missing.
func (m members) object(name string) members {
	in := members{m.within + name + ".", strictjson.Object{}, m.err}
	if !m.has(name) {
		return in
	}
	o, err := parseObject(m.raw(name))
	if err != nil {
		m.fail(name, "an object")
		return in
	}
	in.o = o
	return in
}

// binary is bytes in base64, of either alphabet, padded or not.
func (m members) binary(name string) []byte {
	s := m.text(name)
	if s == "" {
		return nil
	}
	b, err := decode64(s)
	if err != nil {
		m.fail(name, "base64url")
		return nil
	}
	return b
}

var url64 = strings.NewReplacer("+", "-", "/", "_")

func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("it has line breaks")
	}
	return base64.RawURLEncoding.Strict().DecodeString(url64.Replace(strings.TrimRight(s, "=")))
}

// attributes are the members of "attributes".
func (m members) attributes() vault.AttributeChange {
	a := m.object("attributes")
	return vault.AttributeChange{Enabled: a.boolean("enabled"), NotBefore: a.date("nbf"), Expires: a.date("exp"), Exportable: a.boolean("exportable")}
}

// operations are the members of "key_ops". They are nil when that is missing.
func (m members) operations() []vault.Operation {
	if !m.has("key_ops") {
		return nil
	}
	ops := []vault.Operation{}
	for _, name := range m.list("key_ops") {
		ops = append(ops, vault.Operation(name))
	}
	return ops
}

// releasePolicy is that of "release_policy", or nil.
func (m members) releasePolicy() *vault.ReleasePolicy {
	if !m.has("release_policy") {
		return nil
	}
	in := m.object("release_policy")
	p := &vault.ReleasePolicy{ContentType: in.text("contentType"), Data: in.binary("data")}
	if immutable := in.boolean("immutable"); immutable != nil {
		p.Immutable = *immutable
	}
	return p
}

// encode64 is how all bytes are written.
func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// respond answers with a JSON document that nobody may keep.
func (c *call) respond(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding an answer: %w", err)
	}
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-store")
	_, _ = c.w.Write(b) // the client may be gone
	return nil
}
