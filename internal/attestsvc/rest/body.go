// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/strictjson"
)

// object is a JSON object whose members are found by their names in whatever case. Members that nobody asks for are left
// alone, as Azure Attestation does.
type object map[string]json.RawMessage

// parseObject reads one object. A member that occurs twice, be it in another case, is an error: two readers could see two
// requests in it.
func parseObject(name string, b []byte) (object, error) {
	strict, err := strictjson.Parse(b)
	if err != nil {
		return nil, bad("%s is no JSON object of the form that is wanted: %v", name, err)
	}
	o := make(object, len(strict))
	for key, v := range strict {
		folded := strings.ToLower(key)
		if _, twice := o[folded]; twice {
			return nil, bad("%s has the member %q twice", name, key)
		}
		o[folded] = v
	}
	return o, nil
}

func bad(format string, args ...any) error {
	return &attestsvc.RequestError{Message: fmt.Sprintf(format, args...)}
}

// get returns a member, or nil when it is absent or null.
func (o object) get(name string) json.RawMessage {
	v := o[strings.ToLower(name)]
	if string(v) == "null" {
		return nil
	}
	return v
}

// text returns a string member, or "" when it is absent or null.
func (o object) text(name string) (string, error) {
	raw := o.get(name)
	if raw == nil {
		return "", nil
	}
	s, err := strictjson.Object{name: raw}.Text(name)
	if err != nil {
		return "", bad("%s is no string", name)
	}
	return s, nil
}

// bytes returns what a string member encodes.
func (o object) bytes(name string) ([]byte, error) {
	if raw := o.get(name); len(raw) > 1 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 {
		return decode64(name, raw[1:len(raw)-1]) // the long ones have no escapes, and need not be copied
	}
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	return decode64(name, []byte(s))
}

var base64URL, base64Std = base64.RawURLEncoding.Strict(), base64.RawStdEncoding.Strict()

// decode64 takes base64url and base64, each with and without padding: all four are in use.
func decode64(name string, s []byte) ([]byte, error) {
	trimmed := bytes.TrimRight(s, "=")
	encoding := base64URL
	if bytes.IndexByte(trimmed, '+') >= 0 || bytes.IndexByte(trimmed, '/') >= 0 {
		encoding = base64Std
	}
	b := make([]byte, encoding.DecodedLen(len(trimmed)))
	n, err := encoding.Decode(b, trimmed)
	if err != nil || len(s)-len(trimmed) > 2 {
		return nil, bad("%s is neither base64url nor base64", name)
	}
	return b[:n], nil
}

// data returns a member that is data of the client, or nil when it is absent or empty: clients send empty ones for none.
func (o object) data(name string) (*attestsvc.Data, error) {
	raw := o.get(name)
	if raw == nil {
		return nil, nil //nolint:nilnil // absent
	}
	in, err := parseObject(name, raw)
	if err != nil {
		return nil, err
	}
	b, err := in.bytes("data")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(b) == 0 {
		return nil, nil //nolint:nilnil // absent
	}
	typ, err := in.text("dataType")
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(typ) {
	case "json":
		return &attestsvc.Data{Bytes: b, JSON: true}, nil
	case "binary":
		return &attestsvc.Data{Bytes: b}, nil
	}
	return nil, bad("the dataType of %s is %q, not Binary or JSON", name, typ)
}

// nonce returns the nonce, which some clients send as a number.
func (o object) nonce() (string, error) {
	raw := o.get("nonce")
	if raw == nil || raw[0] == '"' {
		return o.text("nonce")
	}
	var n json.Number
	if err := json.Unmarshal(raw, &n); err != nil {
		return "", bad("the nonce is neither a string nor a number")
	}
	return n.String(), nil
}

// readAhead bounds the memory that a client gets for a body by saying how long it will be, in bytes.
const readAhead = 64 << 10

// readBody reads a body, whose size the frame bounds.
func readBody(r *http.Request) ([]byte, error) {
	var b bytes.Buffer
	b.Grow(int(min(max(r.ContentLength, 0), readAhead)) + bytes.MinRead)
	_, err := b.ReadFrom(r.Body)
	var large *http.MaxBytesError
	if err != nil && !errors.As(err, &large) {
		return nil, bad("the body did not arrive whole")
	}
	return b.Bytes(), err
}

// readToken reads a token from a body that is one, or is a JSON string of one, or an object that has it as a member.
func readToken(r *http.Request, member string) (string, error) {
	b, err := readBody(r)
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(b))
	switch {
	case strings.HasPrefix(text, `"`):
		var s string
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return "", bad("the body is no JSON string")
		}
		return s, nil
	case strings.HasPrefix(text, "{") && member != "":
		o, err := parseObject("the body", b)
		if err != nil {
			return "", err
		}
		return o.text(member)
	}
	return text, nil
}
