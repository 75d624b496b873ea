// SPDX-License-Identifier: Apache-2.0

// Package cbor reads and writes the part of CBOR (RFC 8949) that signed messages are made of: integers, byte and text
// strings, arrays, maps, tags, true, false and null.
//
// It is small so that all of it can be read: it is compiled into the measured guest, where hostile hosts feed it. What
// it reads it reads strictly: shortest form, definite lengths, no repeated map keys, valid UTF-8, nothing after the
// item; anything else of CBOR is an error. It trusts nothing, allocates no more than a small multiple of its input, and
// does not reflect.
package cbor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Limits of what is read.
const (
	maxDepth = 16
	maxItems = 1 << 16
)

// Kind says which field of an Item is in use.
type Kind uint8

// The kinds of items. The zero Kind is no item.
const (
	Int Kind = iota + 1
	Bytes
	Text
	Array
	Map
	Tag
	Bool
	Null
)

func (k Kind) String() string {
	names := [...]string{"nothing", "an integer", "a byte string", "a text", "an array", "a map", "a tag", "a truth value", "null"}
	if int(k) < len(names) {
		return names[k]
	}
	return "something unknown"
}

// Item is one decoded item.
type Item struct {
	Kind  Kind
	Int   int64
	Bytes []byte // shares the input's memory
	Text  string
	Items []Item // of an array; of a tag, its one content
	Pairs []Pair // of a map, in the input's order
	Tag   uint64
	Bool  bool

	// Raw is the item as it was encoded. It shares the input's memory.
	Raw []byte
}

// Pair is one entry of a map.
type Pair struct{ Key, Value Item }

// Decode reads exactly one item.
func Decode(data []byte) (Item, error) {
	d := decoder{data: data, left: maxItems}
	it, err := d.item(0)
	if err == nil && d.pos != len(data) {
		err = fmt.Errorf("%d bytes follow the item", len(data)-d.pos)
	}
	if err != nil {
		return Item{}, fmt.Errorf("decoding CBOR at byte %d: %w", d.pos, err)
	}
	return it, nil
}

// Lookup returns the value of an integer key of a map.
func (it *Item) Lookup(key int64) (Item, bool) {
	for _, p := range it.Pairs {
		if p.Key.Kind == Int && p.Key.Int == key {
			return p.Value, true
		}
	}
	return Item{}, false
}

// LookupText returns the value of a text key of a map.
func (it *Item) LookupText(key string) (Item, bool) {
	for _, p := range it.Pairs {
		if p.Key.Kind == Text && p.Key.Text == key {
			return p.Value, true
		}
	}
	return Item{}, false
}

type decoder struct {
	data []byte
	pos  int
	left int // items that may still come
}

var errShort = errors.New("data ends within an item")

func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.data)-d.pos) {
		return nil, errShort
	}
	b := d.data[d.pos : d.pos+int(n)]
	d.pos += int(n)
	return b, nil
}

// head reads an item's first byte and argument.
func (d *decoder) head() (major byte, arg uint64, err error) {
	b, err := d.take(1)
	if err != nil {
		return 0, 0, err
	}
	major, info := b[0]>>5, b[0]&0x1f
	switch {
	case info < 24:
		return major, uint64(info), nil
	case info > 27:
		return 0, 0, errors.New("indefinite or reserved length")
	}
	size := 1 << (info - 24)
	if b, err = d.take(uint64(size)); err != nil {
		return 0, 0, err
	}
	var wide [8]byte
	copy(wide[8-size:], b)
	arg = binary.BigEndian.Uint64(wide[:])
	least := uint64(24)
	if size > 1 {
		least = 1 << (4 * size)
	}
	if arg < least || major == 7 {
		return 0, 0, errors.New("item is not in its shortest form, or a float or unknown simple value")
	}
	return major, arg, nil
}

func (d *decoder) item(depth int) (Item, error) {
	if d.left--; d.left < 0 || depth > maxDepth {
		return Item{}, fmt.Errorf("more than %d items, or nested deeper than %d", maxItems, maxDepth)
	}
	start := d.pos
	major, arg, err := d.head()
	if err != nil {
		return Item{}, err
	}
	var it Item
	switch major {
	case 0, 1:
		if arg > math.MaxInt64 {
			return it, errors.New("integer does not fit 64 bits with a sign")
		}
		it.Kind, it.Int = Int, int64(arg)
		if major == 1 {
			it.Int = -1 - it.Int
		}
	case 2:
		it.Kind = Bytes
		it.Bytes, err = d.take(arg)
	case 3:
		it.Kind = Text
		var b []byte
		b, err = d.take(arg)
		if err == nil && !utf8.Valid(b) {
			err = errors.New("text is not UTF-8")
		}
		it.Text = string(b)
	case 4:
		it.Kind = Array
		it.Items, err = d.items(arg, depth)
	case 5:
		it.Kind = Map
		it.Pairs, err = d.pairs(arg, depth)
	case 6:
		it.Kind, it.Tag = Tag, arg
		it.Items, err = d.items(1, depth)
	default:
		err = it.simple(arg)
	}
	it.Raw = d.data[start:d.pos]
	return it, err
}

func (it *Item) simple(arg uint64) error {
	switch arg {
	case 20, 21:
		it.Kind, it.Bool = Bool, arg == 21
	case 22:
		it.Kind = Null
	default:
		return fmt.Errorf("simple value %d is not supported", arg)
	}
	return nil
}

func (d *decoder) items(n uint64, depth int) ([]Item, error) {
	if n > uint64(len(d.data)-d.pos) { // each takes a byte at least
		return nil, errShort
	}
	var list []Item
	for range n {
		it, err := d.item(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, it)
	}
	return list, nil
}

func (d *decoder) pairs(n uint64, depth int) ([]Pair, error) {
	if n > uint64(len(d.data)-d.pos)/2 {
		return nil, errShort
	}
	var list []Pair
	seen := map[string]bool{}
	for range n {
		key, err := d.item(depth + 1)
		if err != nil {
			return nil, err
		}
		if key.Kind != Int && key.Kind != Text {
			return nil, fmt.Errorf("map key is %s, want an integer or a text", key.Kind)
		}
		if seen[string(key.Raw)] {
			return nil, errors.New("map key is repeated")
		}
		seen[string(key.Raw)] = true
		value, err := d.item(depth + 1)
		if err != nil {
			return nil, err
		}
		list = append(list, Pair{Key: key, Value: value})
	}
	return list, nil
}
