// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPin(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	pin, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(pin)
	if err != nil {
		t.Fatal(err)
	}
	var again Pin
	if err := json.Unmarshal(b, &again); err != nil || !cmp.Equal(pin, again) {
		t.Errorf("%s: %v %s", b, err, cmp.Diff(pin, again))
	}
	if err := reopen(t, f).Verify(again, key); err != nil {
		t.Error(err)
	}
	// Key slots may change under a pin.
	if _, err := h.AddKey(f, key, Slot{[]byte("three"), quick}); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, f).Verify(pin, key); err != nil {
		t.Errorf("pin after a change of slots: %v", err)
	}
}

// TestPinRefuses changes pin, key and header: none of them passes.
func TestPinRefuses(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	if _, err := h.AddKey(f, key, Slot{[]byte("three"), quick}); err != nil {
		t.Fatal(err)
	}
	pin, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	short, other := testKey(t, 32), testKey(t, 64)
	other = VolumeKey{append(bytes.Clone(other.b[:63]), other.b[63]^1)}
	gone := VolumeKey{bytes.Clone(key.b)}
	gone.Destroy()
	for name, k := range map[string]VolumeKey{"shorter": short, "another": other, "none": {}, "destroyed": gone} {
		if err := h.Verify(pin, k); !errors.Is(err, ErrPin) && !errors.Is(err, ErrKey) {
			t.Errorf("key %s: %v", name, err)
		}
		if d, err := h.Device(f, pin, k); d != nil || err == nil {
			t.Errorf("key %s gives a device", name)
		}
		if d, err := h.DeviceWithoutPin(f, k); d != nil || !errors.Is(err, ErrKey) {
			t.Errorf("key %s: %v", name, err)
		}
		if _, err := h.Pin(k); !errors.Is(err, ErrKey) {
			t.Errorf("key %s makes a pin: %v", name, err)
		}
	}
	for name, change := range map[string]func(p *Pin){
		"zero": func(p *Pin) { *p = Pin{} }, "UUID": func(p *Pin) { p.UUID = newUUID() }, "cipher": func(p *Pin) { p.Cipher = "aes-cbc-plain" },
		"key size": func(p *Pin) { p.KeySize = 32 }, "sector size": func(p *Pin) { p.SectorSize = 512 }, "offset": func(p *Pin) { p.Offset += 4096 },
		"size": func(p *Pin) { p.Size -= 4096 }, "lower sequence": func(p *Pin) { p.Sequence-- }, "higher sequence": func(p *Pin) { p.Sequence++ },
		"no MAC": func(p *Pin) { p.MAC = nil }, "short MAC": func(p *Pin) { p.MAC = p.MAC[:16] },
		"MAC of nothing": func(p *Pin) { p.MAC = make([]byte, 32) },
	} {
		p := pin
		change(&p)
		if err := h.Verify(p, key); !errors.Is(err, ErrPin) {
			t.Errorf("%s: error is %v, want one that wraps %v", name, err, ErrPin)
		}
	}
}

// TestPinAgainstHeaders forges headers that are well-formed, and puts back old ones: the pin tells.
func TestPinAgainstHeaders(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	old := make([]byte, 2*minHeaderSize)
	if _, err := f.ReadAt(old, 0); err != nil {
		t.Fatal(err)
	}
	if err := h.RemoveKey(f, 1); err != nil {
		t.Fatal(err)
	}
	good := document(t, f)
	pin, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		from, to string
		binary   func(b []byte)
		want     string
	}{
		"sector size":    {`"sector_size":4096`, `"sector_size":512`, nil, "sector size"},
		"moved data":     {`"offset":"2097152"`, `"offset":"2101248"`, nil, "offset of the data"},
		"shortened data": {`"size":"dynamic"`, `"size":"4096"`, nil, "size of the data"},
		"another UUID":   {"", "", func(b []byte) { copy(b[offUUID:], "01234567") }, "UUID"},
		"lower number":   {"", "", func(b []byte) { b[offSequence+7]-- }, "old header"},
		"another digest": {`"digest":"`, `"digest":"AAAA`, nil, "digest of the volume key"},
	} {
		if name == "another digest" {
			at := strings.LastIndex(good, `"digest":"`) // the salts may begin with the same four letters
			c.from, c.to = good[at:at+len(`"digest":"`)+4], `"digest":"AAAA`
		}
		if !strings.Contains(good, c.from) {
			t.Fatalf("%s: %q is not in %s", name, c.from, good)
		}
		forge(t, f, []byte(strings.Replace(good, c.from, c.to, 1)), c.binary)
		h := reopen(t, f)
		if err := h.Verify(pin, key); !errors.Is(err, ErrPin) && !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
		if c.binary != nil {
			forge(t, f, []byte(good), func(b []byte) {
				copy(b[offUUID:], h.b.uuid)
				copy(b[offUUID:], pin.UUID)
				b[offLabel] = 'l'
				b[offSequence+7] = byte(pin.Sequence)
			})
		}
	}
	// The old header with the removed slot. Under a number that is high enough it would pass: its slots are nobody's word.
	if _, err := f.WriteAt(old, 0); err != nil {
		t.Fatal(err)
	}
	back := reopen(t, f)
	if err := back.Verify(pin, key); !errors.Is(err, ErrPin) {
		t.Errorf("old header: %v", err)
	}
}

// TestSubstitutedVolume puts a volume of somebody else in the place of ours: its passphrase opens it, its pin is not ours.
func TestSubstitutedVolume(t *testing.T) {
	t.Parallel()
	_, h, key := volume(t, nil)
	pin, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	theirs := testFile(t, testSize)
	evil, err := GenerateKey(64)
	if err != nil {
		t.Fatal(err)
	}
	fake, err := Format(theirs, testSize, evil, FormatOptions{UUID: pin.UUID, Offset: testOffset, Slots: []Slot{{[]byte("one"), quick}}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := fake.Unlock(theirs, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []VolumeKey{got, key} {
		if d, err := fake.Device(theirs, pin, k); d != nil || !errors.Is(err, ErrPin) && !errors.Is(err, ErrKey) {
			t.Errorf("the volume is taken for ours: %v", err)
		}
	}
}

func TestPinJSON(t *testing.T) {
	t.Parallel()
	_, h, key := volume(t, nil)
	p, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	for name, c := range map[string][2]string{
		"schema": {`pin/v1`, `pin/v2`}, "unknown key": {`{"schema"`, `{"more":1,"schema"`}, "twice": {`"keySize":64`, `"keySize":64,"keySize":64`},
		"cipher": {`aes-xts-plain64`, `cipher_null-ecb`}, "negative": {`"keySize":64`, `"keySize":-64`}, "sector size": {`"sectorSize":4096`, `"sectorSize":8192`},
		"number for string": {`"offset":"2097152"`, `"offset":2097152`}, "another case": {`"uuid"`, `"UUID"`}, "no MAC": {`"mac":"`, `"mac":"","x":"`},
		"exact": {`"mac"`, `"header":"","mac"`}, "null": {good, `null`}, "trailing": {good, good + "{}"}, "nothing": {good, `{}`},
	} {
		bad := strings.Replace(good, c[0], c[1], 1)
		var q Pin
		if err := q.UnmarshalJSON([]byte(bad)); !errors.Is(err, ErrPin) || !cmp.Equal(q, Pin{}) {
			t.Errorf("%s: %v, %v", name, q, err)
		}
	}
}

func FuzzPin(f *testing.F) {
	f.Add([]byte(`{"schema":"cofferdam.dev/luks2-pin/v1","uuid":"01234567-89ab-4cde-8f01-23456789abcd","cipher":"aes-xts-plain64","keySize":64,` +
		`"sectorSize":4096,"offset":"16777216","size":"4096","sequence":"1","mac":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var p, again Pin
		if p.UnmarshalJSON(b) != nil {
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &again); err != nil || !cmp.Equal(p, again) {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// TestKeyIsNotShown prints a key in every way.
func TestKeyIsNotShown(t *testing.T) {
	t.Parallel()
	k := testKey(t, 64)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("it", slog.Any("key", k), slog.Any("slice", []VolumeKey{k}))
	b, err := json.Marshal(map[string]any{"key": k, "pointer": &k})
	if err != nil {
		t.Fatal(err)
	}
	wrapped := struct{ K VolumeKey }{k}
	for _, s := range []string{
		fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %x %q %d %s", k, k, k, k, k, k, k), fmt.Sprintf("%+v %#v %x", wrapped, wrapped, wrapped), log.String(), string(b),
	} {
		for _, leak := range []string{fmt.Sprintf("%x", k.b[:4]), fmt.Sprintf("%d %d", k.b[0], k.b[1]), fmt.Sprintf("0x%x, 0x%x", k.b[0], k.b[1]), string(k.b[1:5])} {
			if strings.Contains(s, leak) {
				t.Errorf("the key is in %q", s)
			}
		}
		if !strings.Contains(s, redacted) {
			t.Errorf("%q does not say that there is a key", s)
		}
	}
}

func TestFormatRefuses(t *testing.T) {
	t.Parallel()
	f := testFile(t, testSize)
	before, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		size int64
		key  VolumeKey
		o    FormatOptions
	}{
		"no key":         {testSize, VolumeKey{}, FormatOptions{Offset: testOffset}},
		"sector size":    {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, SectorSize: 520}},
		"offset":         {testSize, testKey(t, 64), FormatOptions{Offset: 4096}},
		"odd offset":     {testSize, testKey(t, 64), FormatOptions{Offset: testOffset + 512}},
		"huge offset":    {1 << 40, testKey(t, 64), FormatOptions{Offset: 1 << 30}},
		"no room":        {testOffset, testKey(t, 64), FormatOptions{Offset: testOffset}},
		"default offset": {testSize, testKey(t, 64), FormatOptions{}},
		"part of sector": {testSize - 512, testKey(t, 64), FormatOptions{Offset: testOffset}},
		"too much data":  {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, DataSize: testData + 4096}},
		"negative data":  {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, DataSize: -4096}},
		"label":          {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, Label: strings.Repeat("a", 48)}},
		"label's form":   {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, Label: "a\n"}},
		"UUID":           {testSize, testKey(t, 64), FormatOptions{Offset: testOffset, UUID: "x"}},
	} {
		if h, err := Format(f, c.size, c.key, c.o); h != nil || err == nil {
			t.Errorf("%s: a volume is made", name)
		}
	}
	if after, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("something was written: %v", err)
	}
}

// TestFormatOver formats over a larger header: nothing of it is left to be found.
func TestFormatOver(t *testing.T) {
	t.Parallel()
	f, _, key := volume(t, nil)
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, testOffset-2*minHeaderSize), 2*minHeaderSize); err != nil {
		t.Fatal(err)
	}
	if _, err := Format(f, testSize, key, FormatOptions{Offset: testOffset}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil || !allZero(b[2*minHeaderSize:]) {
		t.Errorf("old bytes are left in front of the data: %v", err)
	}
	opensWith(t, f, key)
}

func TestResize(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	d := device(t, f, h, key)
	plain := noise(5, testData)
	if _, err := d.WriteAt(plain, 0); err != nil {
		t.Fatal(err)
	}
	pin, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ device, data, want int64 }{
		{testSize, 8192, 8192}, {testSize, 0, testData}, {testSize + 4096, 0, testData + 4096}, {testSize + 4096, testData, testData}, {testOffset + 8192, 0, 8192},
	} {
		if err := f.Truncate(max(c.device, testSize)); err != nil {
			t.Fatal(err)
		}
		if err := h.Resize(f, c.device, c.data); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		if err := f.Truncate(c.device); err != nil {
			t.Fatal(err)
		}
		h = reopen(t, f)
		got := readAll(t, device(t, f, h, key))
		n := min(len(got), 8192)
		if int64(len(got)) != c.want || !bytes.Equal(got[:n], plain[:n]) {
			t.Errorf("%+v: %d bytes, or others", c, len(got))
		}
		if err := h.Verify(pin, key); c.want != testData && !errors.Is(err, ErrPin) {
			t.Errorf("%+v: the old pin: %v", c, err)
		}
		if err := h.VerifyResizable(pin, key); err != nil {
			t.Errorf("%+v: the old pin but for the size: %v", c, err)
		}
	}
	for _, c := range []struct{ device, data int64 }{{testOffset + 8192, 12288}, {testOffset + 8192, 512}, {testOffset, 0}, {-1, 0}, {testOffset + 8192, -4096}} {
		if err := h.Resize(f, c.device, c.data); !errors.Is(err, ErrFormat) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for name, change := range map[string]func(p *Pin){
		"offset": func(p *Pin) { p.Offset += 4096 }, "size": func(p *Pin) { p.Size += 4096 }, "sequence": func(p *Pin) { p.Sequence += 100 }, "zero": func(p *Pin) { *p = Pin{} },
	} {
		p := pin
		change(&p)
		if err := h.VerifyResizable(p, key); !errors.Is(err, ErrPin) {
			t.Errorf("a pin with another %s, but for the size: %v", name, err)
		}
	}
	before, err := h.Pin(key)
	if err != nil {
		t.Fatal(err)
	}
	forge(t, f, []byte(strings.Replace(document(t, f), `"sector_size":4096`, `"sector_size":512`, 1)), nil)
	if err := reopen(t, f).VerifyResizable(before, key); !errors.Is(err, ErrPin) || !strings.Contains(err.Error(), "sector size") {
		t.Errorf("another sector size: %v", err)
	}
}
