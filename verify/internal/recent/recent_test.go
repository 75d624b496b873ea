// SPDX-License-Identifier: Apache-2.0

package recent

import (
	"encoding/binary"
	"sync"
	"testing"
)

func number(i int) Key { return Digest("number", binary.BigEndian.AppendUint64(nil, uint64(i))) }

func TestMapIsBounded(t *testing.T) {
	t.Parallel()
	const size = 16
	m := New[int](size)
	for i := range 100 * size {
		m.Put(number(i), i)
		if n := m.Len(); n > size {
			t.Fatalf("after %d facts it has %d, more than %d", i+1, n, size)
		}
		if got, ok := m.Get(number(0)); !ok || got != 0 {
			t.Fatalf("what is used all the time was dropped after %d facts", i+1)
		}
	}
	if _, ok := m.Get(number(1)); ok {
		t.Error("what is never used is still there")
	}
	m.Forget()
	if _, ok := m.Get(number(0)); ok || m.Len() != 0 {
		t.Error("something is left")
	}
}

func TestNilMapRemembersNothing(t *testing.T) {
	t.Parallel()
	var m *Map[int]
	m.Put(number(1), 1)
	m.Forget()
	if _, ok := m.Get(number(1)); ok || m.Len() != 0 {
		t.Error("it remembers")
	}
}

func TestDigestTellsPartsApart(t *testing.T) {
	t.Parallel()
	seen := map[Key]bool{}
	for _, k := range []Key{
		Digest("a"), Digest("b"), Digest("a", nil), Digest("a", []byte("xy")), Digest("a", []byte("x"), []byte("y")), Digest("a", nil, []byte("xy")),
	} {
		if seen[k] {
			t.Errorf("%x is of two things", k)
		}
		seen[k] = true
	}
}

func TestMapIsSafe(t *testing.T) {
	t.Parallel()
	m := New[int](8)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				m.Put(number(i%20), i%20)
				if v, ok := m.Get(number(w)); ok && v != w {
					t.Errorf("%d is under %d", v, w)
				}
				if i%100 == 0 {
					m.Forget()
				}
			}
		})
	}
	wg.Wait()
}
