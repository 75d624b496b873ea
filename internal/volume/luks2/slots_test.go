// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	opensWith(t, f, key, "one", "two")
	id, err := h.AddKey(f, key, Slot{[]byte("three"), KDF{Type: Argon2id, Time: 2, MemoryKiB: 64, Threads: 2}})
	if err != nil || id != 2 {
		t.Fatal(id, err)
	}
	opensWith(t, f, key, "one", "two", "three")
	if err := h.RemoveKey(f, 0); err != nil {
		t.Fatal(err)
	}
	opensWith(t, f, key, "two", "three")
	if err := h.ChangeKey(f, 1, key, Slot{[]byte("one"), quick}); err != nil {
		t.Fatal(err)
	}
	opensWith(t, f, key, "one", "three")
	for _, id := range []int{1, 2} {
		if err := h.RemoveKey(f, id); err != nil {
			t.Fatal(err)
		}
	}
	opensWith(t, f, key)
	if id, err = h.AddKey(f, key, Slot{[]byte("two"), quick}); err != nil || id != 0 {
		t.Fatal(id, err)
	}
	opensWith(t, f, key, "two")
}

// TestSlotsRefused makes changes that must not happen, and compares the volume's bytes.
func TestSlotsRefused(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	before, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	other := testKey(t, 32)
	good := Slot{[]byte("three"), quick}
	add := func(key VolumeKey, s Slot) func() error {
		return func() error { _, err := h.AddKey(f, key, s); return err }
	}
	for name, c := range map[string]struct {
		do   func() error
		want string
	}{
		"another key":        {add(other, good), "volume key of 32 bytes"},
		"no key":             {add(VolumeKey{}, good), "volume key of 0 bytes"},
		"no passphrase":      {add(key, Slot{nil, quick}), "passphrase"},
		"no derivation":      {add(key, Slot{[]byte("x"), KDF{}}), "key derivation"},
		"Argon2i":            {add(key, Slot{[]byte("x"), KDF{Type: Argon2i, Time: 4, MemoryKiB: 64, Threads: 1}}), "Argon2i"},
		"too much memory":    {add(key, Slot{[]byte("x"), KDF{Type: Argon2id, Time: 1, MemoryKiB: 1 << 21, Threads: 1}}), "memory"},
		"unknown hash":       {add(key, Slot{[]byte("x"), KDF{Type: PBKDF2, Hash: "md5", Iterations: 1000}}), "hash"},
		"negative cost":      {add(key, Slot{[]byte("x"), KDF{Type: PBKDF2, Hash: "sha256", Iterations: -1}}), "iterations"},
		"change of no slot":  {func() error { return h.ChangeKey(f, 9, key, good) }, "no such slot"},
		"removal of no slot": {func() error { return h.RemoveKey(f, -1) }, "no such slot"},
	} {
		if err := c.do(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, c.want)
		}
	}
	if after, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the volume changed: %v", err)
	}
}

// TestStale changes a header through two handles: the second one must not undo what the first one did.
func TestStale(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	other := reopen(t, f)
	if err := h.RemoveKey(f, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := other.AddKey(f, key, Slot{[]byte("three"), quick}); !errors.Is(err, ErrStale) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrStale)
	}
	opensWith(t, f, key, "two")
}

// TestFull fills the place for key slots, and fills it again after a removal in the middle.
func TestFull(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	n := 2
	for {
		if _, err := h.AddKey(f, key, Slot{[]byte("three"), quick}); err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
		n++
	}
	if want := (testOffset - 2*minHeaderSize) / 258048; n != want {
		t.Errorf("%d slots fit, want %d", n, want)
	}
	if err := h.ChangeKey(f, 0, key, Slot{[]byte("four"), quick}); !errors.Is(err, ErrFull) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrFull)
	}
	opensWith(t, f, key, "one", "two", "three")
	if err := h.RemoveKey(f, 3); err != nil {
		t.Fatal(err)
	}
	if id, err := h.AddKey(f, key, Slot{[]byte("four"), quick}); err != nil || id != 3 {
		t.Errorf("%d, %v", id, err)
	}
}

// TestRemovedIsGone looks for what a removed slot held: the area is overwritten.
func TestRemovedIsGone(t *testing.T) {
	t.Parallel()
	f, h, key := volume(t, nil)
	for name, remove := range map[int]func() error{
		0: func() error { return h.RemoveKey(f, 0) },
		1: func() error { return h.ChangeKey(f, 1, key, Slot{[]byte("three"), quick}) },
	} {
		k := h.m.Keyslots[name]
		was, is := make([]byte, k.KeySize*stripes), make([]byte, k.KeySize*stripes)
		if _, err := f.ReadAt(was, int64(k.Area.Offset)); err != nil {
			t.Fatal(err)
		}
		if err := remove(); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(is, int64(k.Area.Offset)); err != nil {
			t.Fatal(err)
		}
		same := 0
		for at := 0; at < len(was); at += 64 {
			if bytes.Equal(was[at:at+64], is[at:at+64]) {
				same++
			}
		}
		if same != 0 {
			t.Errorf("slot %d: %d of its stripes are still there", name, same)
		}
	}
}

// TestPriority names, prefers and ignores slots.
func TestPriority(t *testing.T) {
	t.Parallel()
	f, _, key := volume(t, nil)
	doc := document(t, f)
	forge(t, f, []byte(strings.Replace(doc, `"type":"luks2",`, `"type":"luks2","priority":0,`, 1)), nil)
	opensWith(t, f, key, "two")
	h := reopen(t, f)
	if _, err := h.UnlockSlot(f, 0, []byte("one")); err != nil || !h.Info().Slots[0].Ignored {
		t.Errorf("the ignored slot does not open by its number: %v", err)
	}
	if err := h.ChangeKey(f, 0, key, Slot{[]byte("three"), quick}); err != nil || !reopen(t, f).Info().Slots[0].Ignored {
		t.Errorf("the slot is not ignored any more: %v", err)
	}
}

// crashing is a file that forgets all writes after a number of them, and the last one of those in part.
type crashing struct {
	*os.File
	writes, left int
}

var errCrash = errors.New("crash")

func (c *crashing) WriteAt(p []byte, off int64) (int, error) {
	c.writes++
	if c.left == 0 {
		return 0, errCrash
	}
	c.left--
	if c.left == 0 {
		n := len(p) / 512 / 3 * 512
		_, err := c.File.WriteAt(p[:n], off)
		return n, errors.Join(err, errCrash)
	}
	return c.File.WriteAt(p, off)
}

// TestSlotsCrash ends each change of key slots at each of its writes: the volume opens as before, or as after.
func TestSlotsCrash(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change        func(h *Header, f File, key VolumeKey) error
		always, after []string
		before        []string
	}{
		"add": {
			change: func(h *Header, f File, key VolumeKey) error {
				_, err := h.AddKey(f, key, Slot{[]byte("three"), quick})
				return err
			},
			before: []string{"one", "two"}, after: []string{"one", "two", "three"},
		},
		"change": {
			change: func(h *Header, f File, key VolumeKey) error {
				return h.ChangeKey(f, 0, key, Slot{[]byte("three"), quick})
			},
			before: []string{"one", "two"}, after: []string{"two", "three"},
		},
		"remove": { // what opens is destroyed first
			change: func(h *Header, f File, _ VolumeKey) error { return h.RemoveKey(f, 0) },
			before: []string{"two"}, after: []string{"two"},
		},
	} {
		for left := 1; ; left++ {
			f, h, key := volume(t, nil)
			crash := &crashing{File: f, left: left}
			if err := c.change(h, crash, key); err == nil {
				if left == 1 {
					t.Errorf("%s: it never writes", name)
				}
				opensWith(t, f, key, c.after...)
				break
			}
			h = reopen(t, f)
			want := c.before
			if name == "add" && len(h.Info().Slots) == 3 || name == "change" && !canUnlock(h, f, "one") {
				want = c.after
			}
			opensWith(t, f, key, want...)
			if err := h.Repair(f); err != nil {
				t.Errorf("%s, crash at write %d: %v", name, left, err)
			}
			opensWith(t, f, key, want...)
		}
	}
}

func canUnlock(h *Header, f *os.File, passphrase string) bool {
	_, err := h.Unlock(f, []byte(passphrase))
	return err == nil
}
