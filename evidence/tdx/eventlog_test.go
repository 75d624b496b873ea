// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// smallLog is a log of one event that is not measured and one that is.
func smallLog() *EventLog {
	return &EventLog{
		SpecID: SpecID{Index: 1, Major: 2, UintnSize: 2, VendorInfo: []byte("firmware")},
		Events: []Event{
			{Index: 9, Type: EventNoAction, Digest: [48]byte{1}, Data: []byte("not measured")},
			{Index: 3, Type: EventSeparator, Digest: sha512.Sum384(make([]byte, 4)), Data: make([]byte, 4)},
		},
		Padding: 16, PaddingByte: 0xff,
	}
}

func encode(t testing.TB, l *EventLog) []byte {
	t.Helper()
	b, err := l.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReplayOfOneEvent compares a register with the digest that its definition gives, computed step by step.
func TestReplayOfOneEvent(t *testing.T) {
	t.Parallel()
	got := smallLog().Replay()
	separator, err := hex.DecodeString("394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0")
	if err != nil {
		t.Fatal(err)
	}
	want := [RTMRCount][48]byte{2: sha512.Sum384(append(make([]byte, 48), separator...))}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 2}, smallLog().Mismatches([RTMRCount][48]byte{0: {1}})); diff != "" {
		t.Error(diff)
	}
	e := smallLog().Events
	if e[0].Measured() || e[0].DataBound() || !e[1].DataBound() || e[1].RTMR() != 2 || (&Event{Index: 1, Type: EventTag}).DataBound() {
		t.Error("events are described wrongly")
	}
}

func TestEventLogIsParsedStrictly(t *testing.T) {
	t.Parallel()
	good := encode(t, smallLog())
	first := 32 + 37 - 4 + len("firmware") // offset of the event that is not measured
	if binary.LittleEndian.Uint32(good[first:]) != 9 {
		t.Fatalf("the first event is not at %d: %x", first, good[first:])
	}
	second := first + 66 + len("not measured")
	set := func(off int, v ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], v)
		return b
	}
	for name, b := range map[string][]byte{
		"empty":                              nil,
		"padding alone":                      bytes.Repeat([]byte{0xff}, 64),
		"too large":                          make([]byte, MaxEventLogSize+1),
		"first event is measured":            set(4, 4),
		"first event has a digest":           set(27, 1),
		"first event is larger than stated":  set(28, 1),
		"first event is smaller than stated": set(29, 1),
		"other signature":                    set(46, '2'),
		"no algorithm":                       set(56, 0),
		"two algorithms":                     set(56, 2),
		"SHA-256":                            set(60, 0x0b),
		"digests of 32 bytes":                set(62, 32),
		"event with no digest":               set(second+8, 0),
		"event with two digests":             set(second+8, 2),
		"event with SHA-256":                 set(second+12, 0x0b),
		"measured event of register 0":       set(second, 0),
		"measured event of register 5":       set(second, 5),
		"huge data":                          set(second+62, 0xff, 0xff, 0xff, 0xff),
		"padding with another byte":          set(len(good)-1, 0xfe),
		"event behind padding":               append(bytes.Clone(good), good[first:second]...),
		"cut in an event":                    good[:second+30],
		"cut in the first event":             good[:40],
	} {
		if l, err := ParseEventLog(b); err == nil {
			t.Errorf("%s: no error, but %+v", name, l)
		}
	}
	for name, b := range map[string][]byte{
		"as it is": good, "no padding": good[:len(good)-16], "no events": good[:first], "one event": good[:second],
	} {
		if l, err := ParseEventLog(b); err != nil || !bytes.Equal(encode(t, l), b) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEventLogThatHasNoEncoding(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*EventLog){
		"vendor information": func(l *EventLog) { l.SpecID.VendorInfo = make([]byte, 256) },
		"negative padding":   func(l *EventLog) { l.Padding = -1 },
		"huge padding":       func(l *EventLog) { l.Padding = MaxEventLogSize },
		"padding byte":       func(l *EventLog) { l.PaddingByte = 7 },
		"register":           func(l *EventLog) { l.Events[1].Index = 0 },
		"many events":        func(l *EventLog) { l.Events = make([]Event, MaxEvents+1) },
	} {
		l := smallLog()
		change(l)
		if b, err := l.Marshal(); err == nil {
			t.Errorf("%s: no error, but %d bytes", name, len(b))
		}
	}
}

func TestEventTypesAreNamed(t *testing.T) {
	t.Parallel()
	got := []string{EventNoAction.String(), EventBootApplication.String(), EventType(0x800000e0).String(), EventType(0x99).String()}
	want := []string{"EV_NO_ACTION", "EV_EFI_BOOT_SERVICES_APPLICATION", "EV_EFI_VARIABLE_AUTHORITY", "event type 0x99"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEventLogRoundTrip(t *testing.T) {
	t.Parallel()
	event := rapid.Custom(func(t *rapid.T) Event {
		e := Event{
			Index: rapid.Uint32Range(1, RTMRCount).Draw(t, "index"), Type: EventType(rapid.Uint32().Draw(t, "type")),
			Digest: [48]byte(rapid.SliceOfN(rapid.Byte(), 48, 48).Draw(t, "digest")), Data: rapid.SliceOfN(rapid.Byte(), 0, 80).Draw(t, "data"),
		}
		if e.Type == EventNoAction {
			e.Index = rapid.Uint32().Draw(t, "any index")
		}
		return e
	})
	rapid.Check(t, func(t *rapid.T) {
		want := &EventLog{
			SpecID: SpecID{
				Index: rapid.Uint32().Draw(t, "index"), PlatformClass: rapid.Uint32().Draw(t, "class"), Minor: rapid.Byte().Draw(t, "minor"),
				Major: rapid.Byte().Draw(t, "major"), Errata: rapid.Byte().Draw(t, "errata"), UintnSize: rapid.Byte().Draw(t, "uintn"),
				VendorInfo: rapid.SliceOfN(rapid.Byte(), 0, 255).Draw(t, "vendor"),
			},
			Events:  rapid.SliceOfN(event, 0, 8).Draw(t, "events"),
			Padding: rapid.IntRange(0, 300).Draw(t, "padding"),
		}
		if want.Padding > 0 {
			want.PaddingByte = rapid.SampledFrom([]byte{0, 0xff}).Draw(t, "padding byte")
		}
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseEventLog(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatal(diff)
		}
		if diff := got.Mismatches(want.Replay()); diff != nil {
			t.Fatal(diff)
		}
	})
}

func FuzzParseEventLog(f *testing.F) {
	f.Add(encode(f, smallLog()))
	f.Add(encode(f, &EventLog{Padding: 8}))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseEventLog(b)
		if err != nil {
			return
		}
		again, err := l.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("encoding gives other bytes: %v", err)
		}
	})
}
