// SPDX-License-Identifier: Apache-2.0

package descriptor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/volume/luks2"
)

var (
	secret = bytes.Repeat([]byte("0123456789abcdef"), 2)
	other  = bytes.Repeat([]byte("fedcba9876543210"), 2)
	cheap  = Costs{Time: 1, MemoryKiB: 8, Threads: 1}
)

// memory is a file in memory.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error)  { return bytes.NewReader(m.b).ReadAt(p, off) }
func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }
func (m *memory) Sync() error                              { return nil }

func testKey(t testing.TB, size int) Key {
	t.Helper()
	key, err := GenerateKey(size)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sample is a signed descriptor with one key of each kind, all of the same secret.
func sample(t testing.TB, kind Kind) (*Descriptor, Key) {
	t.Helper()
	key := testKey(t, KeySize)
	d := &Descriptor{Kind: kind, ID: [16]byte{1, 2, 3}, Size: 1 << 20, Created: time.Date(2026, 11, 26, 5, 0, 0, 0, time.UTC), Anchor: Anchor{Kind: NoAnchor}}
	switch kind {
	case Shadow:
		d.Anchor = Anchor{Kind: VaultAnchor, Vault: "https://vault.example:8443"}
	case Sealed:
		d.Root = bytes.Repeat([]byte{7}, 32)
	case LUKS2:
		d.Pin = pinOf(t, key)
		d.Size = d.Pin.Size
	}
	for _, s := range []Slot{
		{Kind: FileSlot},
		{Kind: PassphraseSlot, Costs: cheap},
		{Kind: VaultSlot, Vault: &VaultKey{Vault: "vault.example", Authority: "attest.example", Kid: "k/1", Type: "RSA-HSM", Salt: "0a0b", Label: "a label"}},
		{Kind: VaultSlot, Vault: &VaultKey{Vault: "https://vault.example", Kid: "k", Type: "oct-HSM"}},
		{Kind: UnwrapSlot, Unwrap: &Unwrap{Vault: "https://vault.example", Kid: "k/2", Algorithm: RSAOAEP256, Value: []byte("wrapped")}},
	} {
		if kind == LUKS2 && s.Kind != UnwrapSlot {
			n := len(d.Slots)
			s.KeySlot = &n
		}
		if err := d.AddSlot(key, s, secret); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Sign(key); err != nil {
		t.Fatal(err)
	}
	return d, key
}

func pinOf(t testing.TB, key Key) *luks2.Pin {
	t.Helper()
	k, err := luks2.NewVolumeKey(key.Expose())
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{make([]byte, 1<<20)}
	h, err := luks2.Format(m, int64(len(m.b)), k, luks2.FormatOptions{UUID: "01020300-0000-0000-0000-000000000000", Offset: 512 << 10})
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Pin(k)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{LUKS2, Shadow, Sealed} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			d, key := sample(t, kind)
			text, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			read, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, read); diff != "" {
				t.Fatal(diff)
			}
			for i := range read.Slots {
				got, err := read.Open(secret, func(s *Slot) bool { return s == &read.Slots[i] })
				if err != nil || !bytes.Equal(got.Expose(), key.Expose()) {
					t.Errorf("key %d: %v", i, err)
				}
			}
			if _, err := read.Open(other, nil); !errors.Is(err, ErrKey) {
				t.Errorf("another secret: %v", err)
			}
			if err := read.Verify(testKey(t, KeySize)); !errors.Is(err, ErrChanged) {
				t.Errorf("another key: %v", err)
			}
		})
	}
}

func TestZeroOpensNothing(t *testing.T) {
	t.Parallel()
	var d Descriptor
	if _, err := d.Open(secret, nil); err == nil {
		t.Error("the zero descriptor opens")
	}
	if err := d.Verify(Key{}); err == nil {
		t.Error("the zero descriptor verifies")
	}
	good, _ := sample(t, Shadow)
	if err := good.Verify(Key{}); err == nil {
		t.Error("the zero key verifies")
	}
}

// Whoever keeps the descriptor can not change what it says.
func TestAttacks(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Descriptor){
		"the anchor taken away": func(d *Descriptor) { d.Anchor = Anchor{Kind: NoAnchor} },
		"another vault":         func(d *Descriptor) { d.Anchor.Vault = "https://evil.example" },
		"another size":          func(d *Descriptor) { d.Size -= 4096 },
		"another ID":            func(d *Descriptor) { d.ID[3]++ },
		"another time":          func(d *Descriptor) { d.Created = d.Created.Add(time.Hour) },
		"a key taken away":      func(d *Descriptor) { d.Slots = d.Slots[:3] },
		"keys in another order": func(d *Descriptor) { d.Slots[0], d.Slots[1] = d.Slots[1], d.Slots[0] },
		"a key's vault":         func(d *Descriptor) { d.Slots[2].Vault.Vault = "evil.example" },
		"a key of a stranger": func(d *Descriptor) {
			stranger := testKey(t, KeySize)
			d.Slots = nil
			_ = d.AddSlot(stranger, Slot{Kind: FileSlot}, secret)
		},
		"no MAC":       func(d *Descriptor) { d.MAC = nil },
		"another MAC":  func(d *Descriptor) { d.MAC[5] ^= 1 },
		"another kind": func(d *Descriptor) { d.Kind, d.Root, d.Anchor = Sealed, d.MAC, Anchor{Kind: NoAnchor} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, key := sample(t, Shadow)
			change(d)
			if err := d.Verify(key); err == nil {
				t.Error("it verifies")
			}
			if k, err := d.Open(secret, nil); err == nil {
				t.Errorf("it opens with %v", k)
			}
		})
	}
}

// No change of one byte of the text is taken for another descriptor.
func TestEveryByte(t *testing.T) {
	t.Parallel()
	d, key := sample(t, Shadow)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for i := range text {
		for _, b := range []byte{text[i] ^ 1, text[i] ^ 0x20, ' ', '0'} {
			if b == text[i] {
				continue
			}
			changed := bytes.Clone(text)
			changed[i] = b
			read, err := Parse(changed)
			if err == nil && read.Verify(key) == nil {
				t.Errorf("byte %d, %q for %q, is not noticed", i, b, text[i])
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	d, _ := sample(t, Shadow)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{
		"another version":   {"volume/v1", "volume/v2"},
		"an unknown member": {`{"schema"`, `{"more":1,"schema"`},
		"a member twice":    {`{"schema"`, `{"kind":"luks2","schema"`},
		"another case":      {`"kind":"shadow"`, `"Kind":"shadow"`},
		"a missing member":  {`"kind":"shadow",`, ``},
		"a size in words":   {`"size":"1048576"`, `"size":1048576`},
		"a leading zero":    {`"size":"1048576"`, `"size":"01048576"`},
		"a negative size":   {`"size":"1048576"`, `"size":"-1"`},
		"upper case":        {`"id":"010203`, `"id":"0A0203`},
		"an unknown kind":   {`"kind":"shadow"`, `"kind":"plain"`},
		"no anchor":         {`"kind":"vault","vault":"https://vault.example:8443"`, `"kind":""`},
		"a vault too many":  {`"anchor":{"kind":"vault"`, `"anchor":{"kind":"file"`},
		"a pin":             {`"keys"`, `"pin":{},"keys"`},
		"a root":            {`"keys"`, `"root":"` + strings.Repeat("00", 32) + `","keys"`},
		"too much work":     {`"memoryKiB":8`, `"memoryKiB":99999999`},
		"no work":           {`"time":1`, `"time":0`},
		"something behind":  {`}]`, `}],]`},
		"an empty text":     {`"label":"a label"`, `"label":""`},
		"a line break":      {`a label`, `a\nlabel`},
		"an algorithm":      {RSAOAEP256, "RSA1_5"},
		"nothing wrapped":   {`"value":"d3JhcHBlZA=="`, `"value":""`},
		"a slot of LUKS2":   {`"kind":"file",`, `"kind":"file","keySlot":0,`},
	} {
		changed := strings.Replace(string(text), pair[0], pair[1], 1)
		if changed == string(text) {
			t.Errorf("%s: the text has no %s", name, pair[0])
		}
		if _, err := Parse([]byte(changed)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(bytes.Repeat([]byte{' '}, MaxSize+1)); !errors.Is(err, ErrFormat) {
		t.Errorf("too long: %v", err)
	}
}

// TestSlots adds, changes and removes keys: what a descriptor says afterwards, and by which secrets it opens.
func TestSlots(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{LUKS2, Shadow, Sealed} {
		d, key := sample(t, kind)
		opens := func(want ...bool) { // the keys, by their numbers: with other, or with secret
			t.Helper()
			if err := d.Sign(key); err != nil || len(d.Slots) != len(want) {
				t.Fatalf("%s: %d keys (%v)", kind, len(d.Slots), err)
			}
			text, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if d, err = Parse(text); err != nil {
				t.Fatal(err)
			}
			for i, w := range want {
				for with, s := range map[bool][]byte{true: other, false: secret} {
					if _, err := d.OpenSlot(i, s); (err == nil) != (w == with) || err != nil && !errors.Is(err, ErrKey) {
						t.Errorf("%s: key %d, other secret %v: %v", kind, i, with, err)
					}
				}
			}
		}
		if err := d.ChangeSlot(1, key, Slot{Kind: FileSlot}, other); err != nil {
			t.Fatal(err)
		}
		opens(false, true, false, false, false)
		if err := errors.Join(d.RemoveSlot(0), d.RemoveSlot(3)); err != nil {
			t.Fatal(err)
		}
		opens(true, false, false)
		if err := d.AddSlot(key, Slot{Kind: PassphraseSlot, Costs: cheap}, other); err != nil {
			t.Fatal(err)
		}
		opens(true, false, false, true)
		for _, i := range []int{-1, 4} {
			_, err := d.OpenSlot(i, secret)
			for name, err := range map[string]error{"opens": err, "is removed": d.RemoveSlot(i), "is changed": d.ChangeSlot(i, key, Slot{Kind: FileSlot}, other)} {
				if !errors.Is(err, ErrNoSlot) {
					t.Errorf("key %d %s: %v", i, name, err)
				}
			}
		}
		if err := d.ChangeSlot(0, key, Slot{Kind: FileSlot}, other[:31]); err == nil {
			t.Error("a short secret is taken")
		}
		if err := errors.Join(d.RemoveSlot(0), d.RemoveSlot(0), d.RemoveSlot(0)); err != nil {
			t.Fatal(err)
		}
		if err := d.RemoveSlot(0); !errors.Is(err, ErrLast) {
			t.Errorf("the last key: %v", err)
		}
		opens(true)
	}
}

// TestKeySlots has numbers of key slots that can not be.
func TestKeySlots(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"negative": -1, "too large": maxKeySlot + 1, "twice": 1} {
		d, key := sample(t, LUKS2)
		d.Slots[0].KeySlot = &n
		if err := d.Sign(key); err == nil {
			t.Errorf("%s: it is signed", name)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	d, key := sample(t, Shadow)
	for name, c := range map[string]struct {
		slot   Slot
		secret []byte
	}{
		"a short passphrase":   {Slot{Kind: PassphraseSlot, Costs: cheap}, []byte("1234567")},
		"a short file":         {Slot{Kind: FileSlot}, secret[:31]},
		"a long file":          {Slot{Kind: FileSlot}, make([]byte, MaxSecret+1)},
		"no kind":              {Slot{}, secret},
		"an RSA key, no salt":  {Slot{Kind: VaultSlot, Vault: &VaultKey{Vault: "v", Kid: "k", Type: "RSA-HSM"}}, secret},
		"an oct key, salted":   {Slot{Kind: VaultSlot, Vault: &VaultKey{Vault: "v", Kid: "k", Type: "oct", Salt: "00"}}, secret},
		"a passphrase, free":   {Slot{Kind: PassphraseSlot}, secret},
		"a file with a vault":  {Slot{Kind: FileSlot, Vault: &VaultKey{}}, secret},
		"a vault without name": {Slot{Kind: VaultSlot, Vault: &VaultKey{Vault: "v", Type: "oct"}}, secret},
	} {
		if err := d.AddSlot(key, c.slot, c.secret); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	for range maxSlots {
		_ = d.AddSlot(key, Slot{Kind: FileSlot}, secret)
	}
	if len(d.Slots) != maxSlots {
		t.Errorf("%d keys", len(d.Slots))
	}
	if s := fmt.Sprintf("%v %+v %#v %s %x %q", key, key, key, key, key, []any{key}); strings.Contains(s, fmt.Sprintf("%x", key.Expose()[:4])) || strings.Count(s, redacted) != 6 {
		t.Errorf("the key shows: %s", s)
	}
	text, err := json.Marshal(d)
	if err != nil || bytes.Contains(text, secret) || bytes.Contains(text, key.Expose()) {
		t.Errorf("a secret is in the text (%v)", err)
	}
}

func TestRandomDescriptors(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key, err := GenerateKey(KeySize)
		if err != nil {
			t.Fatal(err)
		}
		name := rapid.StringMatching(`[a-z0-9.:/-]{1,40}`)
		d := &Descriptor{
			Kind: Shadow, Size: rapid.Int64Range(1, maxVolume).Draw(t, "size"), Created: time.Unix(rapid.Int64Range(1e9, 9e9).Draw(t, "created"), 0),
			Anchor: Anchor{Kind: FileAnchor}, ID: [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")),
		}
		d.ID[0] |= 1
		for range rapid.IntRange(1, 4).Draw(t, "keys") {
			s := Slot{Kind: VaultSlot, Vault: &VaultKey{Vault: name.Draw(t, "vault"), Kid: name.Draw(t, "kid"), Type: "oct-HSM"}}
			if err := d.AddSlot(key, s, secret); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Sign(key); err != nil {
			t.Fatal(err)
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		read, err := Parse(text)
		if err != nil || read.Verify(key) != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if diff := cmp.Diff(d, read); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	// The seeds are the same in every process that fuzzes.
	bytes32 := strings.Repeat("A", 43) + "="
	wrapped := strings.Repeat("A", 64)
	for _, parts := range [][2]string{
		{`"kind":"shadow"`, `"anchor":{"kind":"vault","vault":"https://vault.example"}`}, {`"kind":"sealed"`, `"root":"` + strings.Repeat("07", 32) + `","anchor":{"kind":"none"}`},
		{`"kind":"luks2","pin":{"schema":"cofferdam.dev/luks2-pin/v1","uuid":"01020300-0000-0000-0000-000000000000","cipher":"aes-xts-plain64","keySize":64,"sectorSize":4096,"offset":"16777216","size":"4096","sequence":"1","mac":"` + bytes32 + `"}`, `"anchor":{"kind":"none"}`},
	} {
		f.Add([]byte(`{"schema":"cofferdam.dev/volume/v1",` + parts[0] + `,"id":"01020300000000000000000000000000","size":"4096","created":"2026-11-26T05:00:00Z","keys":[` +
			`{"kind":"file","salt":"` + bytes32 + `","wrapped":"` + wrapped + `"},{"kind":"passphrase","argon2id":{"time":1,"memoryKiB":8,"threads":1},"salt":"` + bytes32 + `","wrapped":"` + wrapped + `"},` +
			`{"kind":"vault","vault":{"vault":"v","authority":"a","kid":"k","kty":"RSA-HSM","salt":"0a","label":"l"},"salt":"` + bytes32 + `","wrapped":"` + wrapped + `"},` +
			`{"kind":"unwrap","unwrap":{"vault":"v","kid":"k/1","alg":"A256KW","value":"` + bytes32 + `"},"salt":"` + bytes32 + `","wrapped":"` + wrapped + `"}],` +
			parts[1] + `,"mac":"` + bytes32 + `"}`))
	}
	f.Add([]byte(`{"schema":"cofferdam.dev/volume/v1"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse(b)
		if err != nil {
			return
		}
		text, err := d.Marshal()
		if err != nil {
			t.Fatalf("what is read can not be written: %v", err)
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("what is written can not be read: %v", err)
		}
		if diff := cmp.Diff(d, again); diff != "" {
			t.Fatal(diff)
		}
	})
}
