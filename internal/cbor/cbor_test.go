// SPDX-License-Identifier: Apache-2.0

package cbor

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	oracle "github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

// TestExamples are of RFC 8949, appendix A.
func TestExamples(t *testing.T) {
	t.Parallel()
	for in, kind := range map[string]Kind{
		"00": Int, "17": Int, "1818": Int, "1903e8": Int, "1a000f4240": Int, "1b000000e8d4a51000": Int, "20": Int, "3903e7": Int,
		"40": Bytes, "4401020304": Bytes, "60": Text, "62c3bc": Text, "80": Array, "8301820203820405": Array,
		"a201020304": Map, "a26161016162820203": Map, "c11a514b67b0": Tag, "d74401020304": Tag, "f4": Bool, "f5": Bool, "f6": Null,
		"1b7fffffffffffffff": Int, "3b7fffffffffffffff": Int,
	} {
		data, _ := hex.DecodeString(in)
		it, err := Decode(data)
		if err != nil || it.Kind != kind || !bytes.Equal(it.Raw, data) {
			t.Errorf("%s: %+v, %v", in, it, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "data ends", "18": "data ends", "4401": "data ends", "8201": "data ends", "a101": "data ends", "a1": "data ends",
		"9affffffff": "data ends", "baffffffff": "data ends", "5bffffffffffffffff": "data ends", "9bffffffffffffffff": "data ends",
		"1817": "shortest", "190001": "shortest", "1900ff": "shortest", "1a0000ffff": "shortest", "1b00000000ffffffff": "shortest", "580100": "shortest",
		"5f": "indefinite", "9fff": "indefinite", "bfff": "indefinite", "ff": "indefinite", "1c": "indefinite", "1e": "indefinite",
		"f90000": "float", "fb3ff199999999999a": "float", "f820": "float", "f7": "simple value 23", "e0": "simple value 0",
		"1b8000000000000000": "does not fit", "3b8000000000000000": "does not fit",
		"61ff": "UTF-8", "a201000100": "repeated", "a2616100616100": "repeated", "a14000": "map key", "a18000": "map key", "a1f500": "map key",
		"0000": "1 bytes follow", strings.Repeat("81", 17) + "00": "nested", strings.Repeat("c1", 20) + "00": "nested",
	} {
		data, _ := hex.DecodeString(in)
		_, err := Decode(data)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", in, err, want)
		}
	}
	many := AppendArray(nil, maxItems)
	many = append(many, make([]byte, maxItems)...)
	if _, err := Decode(many); err == nil || !strings.Contains(err.Error(), "items") {
		t.Errorf("%d items: %v", maxItems, err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	m := AppendMap(nil, []Entry{
		{AppendText(nil, "1"), AppendText(nil, "text")}, {AppendInt(nil, 1), AppendText(nil, "number")}, {AppendInt(nil, -1), AppendInt(nil, 3)},
	})
	it, err := Decode(m)
	if err != nil {
		t.Fatal(err)
	}
	a, ok := it.Lookup(1)
	b, ok2 := it.LookupText("1")
	if !ok || !ok2 || a.Text != "number" || b.Text != "text" {
		t.Errorf("%q, %q", a.Text, b.Text)
	}
	if _, ok := it.Lookup(2); ok {
		t.Error("found what is not there")
	}
}

// strict is the oracle set to the same rules. It has no limit to the shortest form.
func strict(t *rapid.T) oracle.DecMode {
	m, err := oracle.DecOptions{DupMapKey: oracle.DupMapKeyEnforcedAPF, IndefLength: oracle.IndefLengthForbidden}.DecMode()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestAgainstOracle writes random items with an independent encoder, reads them here, and writes them again.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	mode, err := oracle.CanonicalEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaves := []*rapid.Generator[any]{
			rapid.Int64().AsAny(), rapid.String().AsAny(), rapid.SliceOf(rapid.Byte()).AsAny(), rapid.Bool().AsAny(),
		}
		if depth > 0 {
			inner := value(depth - 1)
			leaves = append(leaves, rapid.SliceOfN(inner, 0, 4).AsAny(), rapid.MapOfN(rapid.String(), inner, 0, 4).AsAny(),
				rapid.MapOfN(rapid.Int64(), inner, 0, 4).AsAny())
		}
		return rapid.OneOf(leaves...)
	}
	rapid.Check(t, func(t *rapid.T) {
		data, err := mode.Marshal(value(3).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		it, err := Decode(data)
		if err != nil {
			t.Fatalf("%x: %v", data, err)
		}
		again := write(nil, it)
		var a, b any
		m := strict(t)
		if err := m.Unmarshal(data, &a); err != nil {
			t.Fatal(err)
		}
		if err := m.Unmarshal(again, &b); err != nil || len(again) != len(data) {
			t.Fatalf("%x became %x, %v", data, again, err)
		}
	})
}

func write(b []byte, it Item) []byte {
	switch it.Kind {
	case Int:
		return AppendInt(b, it.Int)
	case Bytes:
		return AppendBytes(b, it.Bytes)
	case Text:
		return AppendText(b, it.Text)
	case Array:
		b = AppendArray(b, len(it.Items))
		for _, i := range it.Items {
			b = write(b, i)
		}
		return b
	case Tag:
		return write(AppendTag(b, it.Tag), it.Items[0])
	case Map:
		var entries []Entry
		for _, p := range it.Pairs {
			entries = append(entries, Entry{write(nil, p.Key), write(nil, p.Value)})
		}
		return AppendMap(b, entries)
	}
	return append(b, it.Raw...)
}

// FuzzDecode holds what is accepted against an independent decoder: it must accept it too, and what is written again
// must be as long.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a26161016162820203", "d28443a10126a0430102034100", "9f", "c11a514b67b0", "a201020304"} {
		data, _ := hex.DecodeString(s)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		it, err := Decode(data)
		if err != nil {
			return
		}
		if again := write(nil, it); len(again) != len(data) {
			t.Errorf("%x became %x", data, again)
		}
		if err := oracle.Wellformed(data); err != nil {
			t.Errorf("%x: %v", data, err)
		}
	})
}
