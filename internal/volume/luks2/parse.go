// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"cofferdam.dev/internal/strictjson"
)

// parser reads the JSON of a header strictly: a key that is not known, missing, twice there, or of another form is an error.
// It keeps the first error and the place of it, and reads zeros from then on.
type parser struct{ err error }

func (p *parser) fail(at string, err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%w: metadata: %s: %w", ErrFormat, at, err)
	}
}

// parseMetadata reads the JSON. Whether the numbers fit together is for metadata.validate to say.
func parseMetadata(doc []byte) (metadata, error) {
	var p parser
	var m metadata
	o, err := strictjson.Parse(doc)
	p.fail("it", err)
	p.only("it", o, "keyslots", "tokens", "segments", "digests", "config")
	m.Keyslots = members(&p, o, "keyslots", maxSlots, p.keyslot)
	m.Tokens = members(&p, o, "tokens", maxTokens, p.token)
	m.Segments = members(&p, o, "segments", 1, p.segment)
	m.Digests = members(&p, o, "digests", maxDigests, p.digest)
	m.Config = p.config("config", p.object("it", o, "config"))
	return m, p.err
}

// members reads an object whose keys are numbers below limit.
func members[T any](p *parser, o strictjson.Object, key string, limit int, read func(at string, o strictjson.Object) T) map[int]T {
	list := map[int]T{}
	inner := p.object("it", o, key)
	for name := range inner {
		at := key + "." + name
		if n := p.decimal(at, name); p.err == nil && n >= int64(limit) {
			p.fail(at, fmt.Errorf("a number below %d is wanted", limit))
		} else if v := read(at, p.object(key, inner, name)); p.err == nil {
			list[int(n)] = v
		}
	}
	return list
}

func (p *parser) keyslot(at string, o strictjson.Object) keyslot {
	p.only(at, o, "type", "key_size", "priority", "af", "area", "kdf")
	k := keyslot{Type: p.text(at, o, "type"), KeySize: p.integer(at, o, "key_size")}
	if o.Has("priority") {
		n := p.integer(at, o, "priority")
		k.Priority = &n
	}
	af := p.object(at, o, "af")
	p.only(at+".af", af, "type", "stripes", "hash")
	k.AF = splitter{p.text(at, af, "type"), p.integer(at, af, "stripes"), p.text(at, af, "hash")}
	ar := p.object(at, o, "area")
	p.only(at+".area", ar, "type", "offset", "size", "encryption", "key_size")
	k.Area = area{p.text(at, ar, "type"), p.number(at, ar, "offset"), p.number(at, ar, "size"), p.text(at, ar, "encryption"), p.integer(at, ar, "key_size")}
	k.KDF = p.kdf(at+".kdf", p.object(at, o, "kdf"))
	return k
}

func (p *parser) kdf(at string, o strictjson.Object) kdf {
	k := kdf{Type: p.text(at, o, "type"), Salt: p.bytes(at, o, "salt")}
	switch k.Type {
	case PBKDF2:
		p.only(at, o, "type", "hash", "iterations", "salt")
		k.Hash, k.Iterations = p.text(at, o, "hash"), p.integer(at, o, "iterations")
	case Argon2id, Argon2i:
		p.only(at, o, "type", "time", "memory", "cpus", "salt")
		k.Time, k.Memory, k.CPUs = p.integer(at, o, "time"), p.integer(at, o, "memory"), p.integer(at, o, "cpus")
	default:
		p.fail(at, fmt.Errorf("type: expected %q, %q or %q, got %q", PBKDF2, Argon2id, Argon2i, k.Type))
	}
	return k
}

func (p *parser) token(at string, o strictjson.Object) token {
	_ = p.text(at, o, "type")
	return token{o, p.ids(at, o, "keyslots")}
}

func (p *parser) segment(at string, o strictjson.Object) segment {
	if p.err == nil && o.Has("integrity") {
		p.fail(at, errors.New("integrity tags are not supported"))
	}
	if o.Has("flags") && len(p.list(at, o, "flags")) > 0 {
		p.fail(at, errors.New("flags are not supported"))
	}
	p.only(at, o, "type", "offset", "size", "iv_tweak", "encryption", "sector_size", "flags")
	s := segment{
		Type: p.text(at, o, "type"), Offset: p.number(at, o, "offset"), IVTweak: p.number(at, o, "iv_tweak"),
		Encryption: p.text(at, o, "encryption"), SectorSize: p.integer(at, o, "sector_size"),
	}
	if size := p.text(at, o, "size"); size != dynamic {
		s.Size = extent(p.decimal(at+".size", size))
		if s.Size == 0 {
			p.fail(at, errors.New("size: zero"))
		}
	}
	return s
}

func (p *parser) digest(at string, o strictjson.Object) digest {
	p.only(at, o, "type", "keyslots", "segments", "hash", "iterations", "salt", "digest")
	return digest{
		Type: p.text(at, o, "type"), Keyslots: p.ids(at, o, "keyslots"), Segments: p.ids(at, o, "segments"), Hash: p.text(at, o, "hash"),
		Iterations: p.integer(at, o, "iterations"), Salt: p.bytes(at, o, "salt"), Digest: p.bytes(at, o, "digest"),
	}
}

func (p *parser) config(at string, o strictjson.Object) config {
	p.only(at, o, "json_size", "keyslots_size", "flags", "requirements")
	c := config{JSONSize: p.number(at, o, "json_size"), KeyslotsSize: p.number(at, o, "keyslots_size")}
	if o.Has("flags") {
		c.Flags = p.list(at, o, "flags")
	}
	if o.Has("requirements") {
		r := p.object(at, o, "requirements")
		p.only(at+".requirements", r, "mandatory")
		if r.Has("mandatory") {
			c.Requirements = &requirements{p.list(at, r, "mandatory")}
		}
	}
	return c
}

func (p *parser) only(at string, o strictjson.Object, keys ...string) {
	if p.err == nil {
		p.fail(at, o.Only(keys...))
	}
}

func (p *parser) object(at string, o strictjson.Object, key string) strictjson.Object {
	if p.err != nil {
		return nil
	}
	inner, err := o.Object(key)
	p.fail(at, err)
	return inner
}

func (p *parser) text(at string, o strictjson.Object, key string) string {
	if p.err != nil {
		return ""
	}
	s, err := o.Text(key)
	p.fail(at, err)
	return s
}

// integer reads a JSON number that is an integer from 0 to 2³¹-1, without sign, point or exponent.
func (p *parser) integer(at string, o strictjson.Object, key string) int {
	if p.err != nil {
		return 0
	}
	var n int32
	raw := o[key]
	err := json.Unmarshal(raw, &n)
	if err != nil || strconv.Itoa(int(n)) != string(raw) || n < 0 {
		p.fail(at, fmt.Errorf("%q is not there, or not an integer from 0 to 2³¹-1", key))
		return 0
	}
	return int(n)
}

// number reads a string that is a decimal number.
func (p *parser) number(at string, o strictjson.Object, key string) decimal {
	return decimal(p.decimal(at+"."+key, p.text(at, o, key)))
}

// decimal reads a decimal number from 0 to maxSize as it is written in exactly one way.
func (p *parser) decimal(at, s string) int64 {
	if p.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxSize || strconv.FormatInt(n, 10) != s {
		p.fail(at, fmt.Errorf("%.32q is not a decimal number from 0 to %d", s, int64(maxSize)))
		return 0
	}
	return n
}

func (p *parser) bytes(at string, o strictjson.Object, key string) []byte {
	s := p.text(at, o, key)
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && base64.StdEncoding.EncodeToString(b) != s {
		err = errors.New("it has line breaks")
	}
	if err != nil {
		p.fail(at, fmt.Errorf("%q: %w", key, err))
	}
	return b
}

// list reads an array of a few strings, none of them twice.
func (p *parser) list(at string, o strictjson.Object, key string) []string {
	if p.err != nil {
		return nil
	}
	raw, err := o.List(key, maxSlots)
	p.fail(at, err)
	seen := map[string]bool{}
	all := make([]string, 0, len(raw))
	for i := range raw {
		s := p.text(at, strictjson.Object{key: raw[i]}, key)
		if seen[s] {
			p.fail(at, fmt.Errorf("%q: %.32q is there twice", key, s))
		}
		seen[s] = true
		all = append(all, s)
	}
	return all
}

// ids reads an array of numbers that are written as strings.
func (p *parser) ids(at string, o strictjson.Object, key string) []int {
	var all []int
	for _, s := range p.list(at, o, key) {
		n := p.decimal(at+"."+key, s)
		if n >= maxSlots {
			p.fail(at, fmt.Errorf("%q: a number below %d is wanted", key, maxSlots))
		}
		all = append(all, int(n))
	}
	return all
}
