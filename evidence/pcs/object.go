// SPDX-License-Identifier: Apache-2.0

package pcs

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// reader collects the errors of one document, so that all that is wrong with it is told at once.
type reader struct{ errs []error }

func (r *reader) fail(path, format string, args ...any) {
	const most = 16
	if len(r.errs) < most {
		r.errs = append(r.errs, fmt.Errorf("%s %w", path, fmt.Errorf(format, args...)))
	}
}

// object is one JSON object whose members are kept as the exact bytes of their values.
type object struct {
	r       *reader
	path    string
	members map[string]json.RawMessage
}

// object splits an object into its members. encoding/json alone would fold case and let the last of several equal members
// win; two readers could then see different documents in the same signed bytes.
func (r *reader) object(path string, b []byte) object {
	o := object{r: r, path: path, members: map[string]json.RawMessage{}}
	if err := o.split(b); err != nil {
		r.fail(path, "is no JSON object: %w", err)
	}
	return o
}

func (o object) split(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	tok, err := dec.Token()
	if err != nil {
		return noEOF(err)
	}
	if tok != json.Delim('{') {
		return fmt.Errorf("it begins with %v", tok)
	}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return noEOF(err)
		}
		name, ok := tok.(string)
		if !ok {
			return fmt.Errorf("a member's name is %v", tok)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return fmt.Errorf("reading %q: %w", name, noEOF(err))
		}
		if _, twice := o.members[name]; twice {
			return fmt.Errorf("member %q occurs twice", name)
		}
		o.members[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return noEOF(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows it")
	}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (o object) has(name string) bool { _, ok := o.members[name]; return ok }

func (o object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// raw returns the bytes of a member that must be there.
func (o object) raw(name string) json.RawMessage {
	v, ok := o.members[name]
	if !ok {
		o.r.fail(o.at(name), "is missing")
	}
	return v
}

func (o object) object(name string) object {
	v := o.raw(name)
	if v == nil {
		return object{r: &reader{}, path: o.at(name)} // one complaint is enough
	}
	return o.r.object(o.at(name), v)
}

// list returns the elements of an array of at most limit elements, or nothing when an optional member is absent.
func (o object) list(name string, limit int, optional bool) []json.RawMessage {
	if optional && !o.has(name) {
		return nil
	}
	v := o.raw(name)
	if v == nil {
		return nil
	}
	var list []json.RawMessage
	if v[0] != '[' {
		o.r.fail(o.at(name), "is no array")
		return nil
	}
	if err := json.Unmarshal(v, &list); err != nil {
		o.r.fail(o.at(name), "is no array: %w", err)
		return nil
	}
	if len(list) > limit {
		o.r.fail(o.at(name), "has %d elements, more than %d", len(list), limit)
		return nil
	}
	return list
}

func (o object) objects(name string, limit int, optional bool) []object {
	list := o.list(name, limit, optional)
	objects := make([]object, 0, len(list))
	for i, v := range list {
		objects = append(objects, o.r.object(fmt.Sprintf("%s[%d]", o.at(name), i), v))
	}
	return objects
}

func (o object) text(name string) string {
	v := o.raw(name)
	if v == nil {
		return ""
	}
	return o.r.text(o.at(name), v)
}

func (r *reader) text(path string, v json.RawMessage) string {
	var s string
	if v[0] != '"' {
		r.fail(path, "is no string")
		return ""
	}
	if err := json.Unmarshal(v, &s); err != nil {
		r.fail(path, "is no string: %w", err)
	}
	return s
}

// number returns a member that is a whole decimal number from 0 to limit.
func (o object) number(name string, limit uint64) uint64 {
	v := o.raw(name)
	if v == nil {
		return 0
	}
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n > limit {
		o.r.fail(o.at(name), "is %.20q, not a number from 0 to %d", []byte(v), limit)
		return 0
	}
	return n
}

// hex fills dst from a member that is a string of exactly that many bytes in hexadecimal.
func (o object) hex(name string, dst []byte) {
	v := o.raw(name)
	if v == nil {
		return
	}
	s := o.r.text(o.at(name), v)
	if len(s) != hex.EncodedLen(len(dst)) {
		o.r.fail(o.at(name), "has %d characters, not %d", len(s), hex.EncodedLen(len(dst)))
		return
	}
	if _, err := hex.Decode(dst, []byte(s)); err != nil {
		o.r.fail(o.at(name), "is not hexadecimal: %w", err)
	}
}

// time returns a member that is a time in UTC as Intel writes it.
func (o object) time(name string) time.Time {
	v := o.raw(name)
	if v == nil {
		return time.Time{}
	}
	s := o.r.text(o.at(name), v)
	t, err := time.Parse("2006-01-02T15:04:05Z", s)
	if err != nil {
		o.r.fail(o.at(name), "is %.40q, not a time such as 2024-03-13T00:00:00Z", s)
		return time.Time{}
	}
	return t
}
