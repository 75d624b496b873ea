// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/volume/luks2"
)

// wire is a descriptor as JSON. Its canonical text has the members in this order, without white space.
type wire struct {
	Schema  string     `json:"schema"`
	Kind    Kind       `json:"kind"`
	ID      string     `json:"id"`
	Size    string     `json:"size"` // not all readers of JSON hold large numbers exactly
	Created string     `json:"created"`
	Pin     *luks2.Pin `json:"pin,omitempty"`
	Root    string     `json:"root,omitempty"`
	Keys    []wireSlot `json:"keys"`
	Anchor  wireAnchor `json:"anchor"`
	MAC     []byte     `json:"mac,omitempty"`
}

type wireAnchor struct {
	Kind  AnchorKind `json:"kind"`
	Vault string     `json:"vault,omitempty"`
}

type wireSlot struct {
	Kind     SlotKind    `json:"kind"`
	Argon2id *wireCosts  `json:"argon2id,omitempty"`
	Vault    *wireVault  `json:"vault,omitempty"`
	Unwrap   *wireUnwrap `json:"unwrap,omitempty"`
	KeySlot  *int        `json:"keySlot,omitempty"`
	Salt     []byte      `json:"salt"`
	Wrapped  []byte      `json:"wrapped,omitempty"`
}

type wireCosts struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Threads   uint8  `json:"threads"`
}

type wireVault struct {
	Vault     string `json:"vault"`
	Authority string `json:"authority,omitempty"`
	Kid       string `json:"kid"`
	Type      string `json:"kty"`
	Salt      string `json:"salt,omitempty"`
	Label     string `json:"label,omitempty"`
}

type wireUnwrap struct {
	Vault     string `json:"vault"`
	Kid       string `json:"kid"`
	Algorithm string `json:"alg"`
	Value     []byte `json:"value"`
}

func (s *Slot) wire() wireSlot {
	w := wireSlot{Kind: s.Kind, KeySlot: s.KeySlot, Salt: s.Salt, Wrapped: s.Wrapped}
	if s.Kind == PassphraseSlot {
		w.Argon2id = &wireCosts{s.Costs.Time, s.Costs.MemoryKiB, s.Costs.Threads}
	}
	if v := s.Vault; v != nil {
		w.Vault = &wireVault{v.Vault, v.Authority, v.Kid, v.Type, v.Salt, v.Label}
	}
	if u := s.Unwrap; u != nil {
		w.Unwrap = &wireUnwrap{u.Vault, u.Kid, u.Algorithm, u.Value}
	}
	return w
}

// canonical is the text that the MAC is over, or with it the one that is written.
func (d *Descriptor) canonical(mac bool) ([]byte, error) {
	w := wire{
		Schema: Schema, Kind: d.Kind, ID: hex.EncodeToString(d.ID[:]), Size: strconv.FormatInt(d.Size, 10),
		Created: d.Created.UTC().Format(time.RFC3339), Pin: d.Pin, Root: hex.EncodeToString(d.Root), Anchor: wireAnchor{d.Anchor.Kind, d.Anchor.Vault},
	}
	for i := range d.Slots {
		w.Keys = append(w.Keys, d.Slots[i].wire())
	}
	if mac {
		w.MAC = d.MAC
	}
	return encode(w)
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding a descriptor: %w", err)
	}
	return b, nil
}

// MarshalJSON returns the descriptor's text. There is nothing secret in it.
func (d *Descriptor) MarshalJSON() ([]byte, error) { return d.canonical(true) }

// Marshal returns the descriptor's text for a file, indented for people.
func (d *Descriptor) Marshal() ([]byte, error) {
	text, err := d.canonical(true)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		return nil, fmt.Errorf("encoding a descriptor: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}

// Parse reads a descriptor strictly: no key may be unknown, missing, there twice or spelt in another case, and every value is
// written in one way only. Nothing of it counts before Open or Verify. The error wraps ErrFormat.
func Parse(b []byte) (*Descriptor, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("reading a descriptor: %w: %d bytes, at most %d are allowed", ErrFormat, len(b), MaxSize)
	}
	d, err := parse(b)
	if err == nil {
		err = d.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("reading a descriptor: %w: %w", ErrFormat, err)
	}
	return d, nil
}

// UnmarshalJSON reads a descriptor that is a part of another document, as Parse does.
func (d *Descriptor) UnmarshalJSON(b []byte) error {
	read, err := Parse(b)
	if err == nil {
		*d = *read
	}
	return err
}

func parse(b []byte) (*Descriptor, error) {
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	var r reader
	if s := r.text(o, "schema"); r.err == nil && s != Schema {
		return nil, fmt.Errorf("schema: expected %q, got %.64q", Schema, s)
	}
	r.only(o, "schema", "kind", "id", "size", "created", "pin", "root", "keys", "anchor", "mac")
	d := &Descriptor{Kind: Kind(r.text(o, "kind")), Size: r.decimal(o, "size"), MAC: r.bytes(o, "mac", 32), Anchor: r.anchor(o)}
	copy(d.ID[:], r.hex(o, "id", 16))
	if o.Has("pin") {
		d.Pin = &luks2.Pin{}
		r.fail(d.Pin.UnmarshalJSON(o["pin"]))
	}
	if o.Has("root") {
		d.Root = r.hex(o, "root", 32)
	}
	created := r.text(o, "created")
	if d.Created, err = time.Parse(time.RFC3339, created); r.err == nil && (err != nil || d.Created.UTC().Format(time.RFC3339) != created) {
		r.fail(fmt.Errorf("\"created\" is %.40q, expected a time such as 2026-11-26T05:00:00Z", created))
	}
	d.Slots = r.slots(o)
	return d, r.err
}

func (r *reader) anchor(o strictjson.Object) Anchor {
	in := r.object(o, "anchor")
	r.only(in, "kind", "vault")
	return Anchor{Kind: AnchorKind(r.text(in, "kind")), Vault: r.optional(in, "vault")}
}

func (r *reader) slots(o strictjson.Object) []Slot {
	list, err := o.List("keys", maxSlots)
	r.fail(err)
	var slots []Slot
	for i, raw := range list {
		in, err := strictjson.Parse(raw)
		if err != nil {
			r.fail(fmt.Errorf("key %d: %w", i, err))
			return nil
		}
		r.only(in, "kind", "argon2id", "vault", "unwrap", "keySlot", "salt", "wrapped")
		s := Slot{Kind: SlotKind(r.text(in, "kind")), Salt: r.bytes(in, "salt", saltSize), Wrapped: r.bytes(in, "wrapped", 0)}
		if in.Has("argon2id") {
			c := r.object(in, "argon2id")
			r.only(c, "time", "memoryKiB", "threads")
			s.Costs = Costs{Time: r.number(c, "time", maxWorkKiB), MemoryKiB: r.number(c, "memoryKiB", maxMemoryKiB), Threads: uint8(r.number(c, "threads", maxThreads))}
		}
		if in.Has("vault") {
			v := r.object(in, "vault")
			r.only(v, "vault", "authority", "kid", "kty", "salt", "label")
			s.Vault = &VaultKey{
				Vault: r.text(v, "vault"), Authority: r.optional(v, "authority"), Kid: r.text(v, "kid"), Type: r.text(v, "kty"),
				Salt: r.optional(v, "salt"), Label: r.optional(v, "label"),
			}
		}
		if in.Has("unwrap") {
			u := r.object(in, "unwrap")
			r.only(u, "vault", "kid", "alg", "value")
			s.Unwrap = &Unwrap{Vault: r.text(u, "vault"), Kid: r.text(u, "kid"), Algorithm: r.text(u, "alg"), Value: r.bytes(u, "value", 0)}
		}
		if in.Has("keySlot") {
			n := int(r.number(in, "keySlot", maxKeySlot))
			s.KeySlot = &n
		}
		slots = append(slots, s)
	}
	return slots
}

// reader takes values out of objects, and keeps the first error.
type reader struct{ err error }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) only(o strictjson.Object, keys ...string) { r.fail(o.Only(keys...)) }

func (r *reader) object(o strictjson.Object, key string) strictjson.Object {
	in, err := o.Object(key)
	r.fail(err)
	return in
}

func (r *reader) text(o strictjson.Object, key string) string {
	s, err := o.Text(key)
	r.fail(err)
	return s
}

// optional is a text that is either missing or not empty.
func (r *reader) optional(o strictjson.Object, key string) string {
	if !o.Has(key) {
		return ""
	}
	s := r.text(o, key)
	if s == "" {
		r.fail(fmt.Errorf("%q is empty: leave it out", key))
	}
	return s
}

func (r *reader) hex(o strictjson.Object, key string, size int) []byte {
	s := r.text(o, key)
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size || hex.EncodeToString(b) != s {
		r.fail(fmt.Errorf("%q is not %d bytes in lower-case hexadecimal", key, size))
	}
	return b
}

// bytes are in standard base64; a size of zero is any.
func (r *reader) bytes(o strictjson.Object, key string, size int) []byte {
	s := r.text(o, key)
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || size > 0 && len(b) != size || base64.StdEncoding.EncodeToString(b) != s {
		r.fail(fmt.Errorf("%q is not base64 of %d bytes", key, size))
	}
	return b
}

func (r *reader) decimal(o strictjson.Object, key string) int64 {
	s := r.text(o, key)
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		r.fail(fmt.Errorf("%q is %.32q, expected a decimal number in a string", key, s))
	}
	return n
}

func (r *reader) number(o strictjson.Object, key string, most uint32) uint32 {
	raw := string(bytes.TrimSpace(o[key]))
	n, err := strconv.ParseUint(raw, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != raw || n > uint64(most) {
		r.fail(fmt.Errorf("%q is not an integer from 0 to %d", key, most))
	}
	return uint32(n)
}
