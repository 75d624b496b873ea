// SPDX-License-Identifier: Apache-2.0

package fixed

import (
	"bytes"
	"testing"
)

func TestDecoder(t *testing.T) {
	t.Parallel()
	d := Decoder{Bytes: []byte{1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}}
	if a, b, c, e := d.U8(), d.U16(), d.U32(), d.U64(); a != 1 || b != 2 || c != 3 || e != 4 {
		t.Errorf("read %d, %d, %d and %d", a, b, c, e)
	}
	d.Zero(17)
	if d.Err != nil || d.Off != 17 {
		t.Errorf("after zeros at %d: %v", d.Off, d.Err)
	}
	d.Zero(18)
	d.Fail("something later")
	if want := "reserved byte at offset 17 is 0x09, not 0"; d.Err == nil || d.Err.Error() != want {
		t.Errorf("%v; want %q", d.Err, want)
	}
}

func TestPad(t *testing.T) {
	t.Parallel()
	if got := Pad([]byte{1}, 3); !bytes.Equal(got, []byte{1, 0, 0}) {
		t.Errorf("padded to %x", got)
	}
}

func TestBits(t *testing.T) {
	t.Parallel()
	table := Bits{0: "low", 63: "high"}
	for v, want := range map[uint64]string{
		0: "0x0 (none)", 1: "0x1 (low)", 1<<63 | 1: "0x8000000000000001 (low, high)", 6: "0x6 (unknown 0x6)", 3: "0x3 (low, unknown 0x2)",
	} {
		if got := table.Word(v); got != want {
			t.Errorf("%#x is %q, not %q", v, got, want)
		}
	}
	if v, err := table.Parse("high"); err != nil || v != 1<<63 {
		t.Errorf("high is %#x, %v", v, err)
	}
	for _, name := range []string{"", "none", "Low"} {
		if _, err := table.Parse(name); err == nil {
			t.Errorf("%q is a bit", name)
		}
	}
}
