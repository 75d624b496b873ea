// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sevabi "github.com/google/go-sev-guest/abi"
	"pgregory.net/rapid"
)

func TestMessagesRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		u32 := func(label string) uint32 { return rapid.Uint32().Draw(t, label) }
		bytesOf := func(n int, label string) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, label) }
		rr := &ReportRequest{ReportData: [64]byte(bytesOf(64, "data")), VMPL: u32("vmpl"), KeySelect: u32("select")}
		if got, err := ParseReportRequest(rr.Marshal()); err != nil || *got != *rr {
			t.Fatalf("%+v became %+v, %v", rr, got, err)
		}
		kr := &KeyRequest{RootKey: u32("root"), Fields: FieldSelect(rapid.Uint64().Draw(t, "fields")), VMPL: u32("vmpl"),
			GuestSVN: u32("svn"), TCB: TCB(bytesOf(8, "tcb"))}
		if got, err := ParseKeyRequest(kr.Marshal()); err != nil || *got != *kr {
			t.Fatalf("%+v became %+v, %v", kr, got, err)
		}
		rsp := &KeyResponse{Key: DerivedKey(bytesOf(32, "key"))}
		if got, err := ParseKeyResponse(rsp.Marshal()); err != nil || *got != *rsp {
			t.Fatalf("%+v became %+v, %v", rsp, got, err)
		}
	})
}

func TestMessagesAreParsedStrictly(t *testing.T) {
	t.Parallel()
	report := (&ReportResponse{Report: make([]byte, ReportSize)}).Marshal()
	set := func(b []byte, off int, v byte) []byte {
		b = bytes.Clone(b)
		b[off] = v
		return b
	}
	for name, try := range map[string]func() error{
		"report request, short":     func() error { _, err := ParseReportRequest(make([]byte, 95)); return err },
		"report request, reserved":  func() error { _, err := ParseReportRequest(set(make([]byte, 96), 0x48, 1)); return err },
		"key request, long":         func() error { _, err := ParseKeyRequest(make([]byte, 0x21)); return err },
		"key request, reserved":     func() error { _, err := ParseKeyRequest(set(make([]byte, 0x20), 4, 1)); return err },
		"key response, short":       func() error { _, err := ParseKeyResponse(make([]byte, 0x3f)); return err },
		"key response, reserved":    func() error { _, err := ParseKeyResponse(set(make([]byte, 0x40), 4, 1)); return err },
		"key with a failure":        func() error { _, err := ParseKeyResponse(set(set(make([]byte, 0x40), 0, 0x16), 0x20, 1)); return err },
		"report response, short":    func() error { _, err := ParseReportResponse(report[:31]); return err },
		"report response, cut":      func() error { _, err := ParseReportResponse(report[:len(report)-1]); return err },
		"report response, long":     func() error { _, err := ParseReportResponse(append(bytes.Clone(report), 0)); return err },
		"report response, size":     func() error { _, err := ParseReportResponse(set(report, 4, 1)); return err },
		"report response, reserved": func() error { _, err := ParseReportResponse(set(report, 0x1f, 1)); return err },
		"report with a failure":     func() error { _, err := ParseReportResponse(set(report, 0, 0x16)); return err },
		"success without report": func() error {
			_, err := ParseReportResponse((&ReportResponse{}).Marshal())
			return err
		},
	} {
		if try() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	got, err := ParseReportResponse((&ReportResponse{Status: StatusInvalidParameter}).Marshal())
	if err != nil || got.Status != StatusInvalidParameter || len(got.Report) != 0 {
		t.Errorf("a failure is parsed as %+v, %v", got, err)
	}
	for s, want := range map[Status]string{0: "success", 0x16: "0x16", 0x27: "0x27", 9: "0x9"} {
		if !strings.Contains(s.String(), want) {
			t.Errorf("status %d prints as %q", s, s)
		}
	}
}

func TestFrames(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, n := range []int{0, 1, MaxFrameSize - 1} {
		want := bytes.Repeat([]byte{9}, n)
		if err := WriteFrame(&b, MessageReportRequest, want); err != nil {
			t.Fatal(err)
		}
		kind, got, err := ReadFrame(&b)
		if kind != MessageReportRequest || !bytes.Equal(got, want) || err != nil {
			t.Errorf("%d bytes became %d of type %d, %v", n, len(got), kind, err)
		}
	}
	if err := WriteFrame(&b, 1, make([]byte, MaxFrameSize)); err == nil || b.Len() != 0 {
		t.Errorf("a frame too large: %v, %d bytes written", err, b.Len())
	}
	for name, c := range map[string]struct {
		in  []byte
		eof bool
	}{
		"nothing": {nil, true}, "half a length": {[]byte{1, 0}, false}, "size 0": {[]byte{0, 0, 0, 0, 1}, false},
		"size too large": {[]byte{1, 0x20, 0, 0, 1}, false}, "no message": {[]byte{1, 0, 0, 0}, false},
		"half a message": {[]byte{3, 0, 0, 0, 1, 2}, false},
	} {
		_, _, err := ReadFrame(bytes.NewReader(c.in))
		if err == nil || (err == io.EOF) != c.eof { //nolint:errorlint // the documented value itself
			t.Errorf("%s: %v", name, err)
		}
		if !c.eof && errors.Is(err, io.EOF) {
			t.Errorf("%s: %v looks like a clean end", name, err)
		}
	}
}

func TestCertificateTable(t *testing.T) {
	t.Parallel()
	want := []CertificateEntry{{GUIDVCEK, []byte("vcek")}, {GUIDASK, []byte("ask!")}, {GUIDARK, []byte("a")}, {GUID{1}, []byte("x")}}
	b, err := MarshalCertificateTable(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseCertificateTable(append(b, make([]byte, 4096)...)) // hosts pad to pages
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var o sevabi.CertTable
	if err := o.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	for guid, text := range map[string]string{sevabi.VcekGUID: "vcek", sevabi.AskGUID: "ask!", sevabi.ArkGUID: "a"} {
		if data, err := o.GetByGUIDString(guid); err != nil || string(data) != text {
			t.Errorf("the oracle reads %q for %s, %v", data, guid, err)
		}
	}
	for _, g := range []struct {
		guid GUID
		text string
	}{{GUIDVCEK, sevabi.VcekGUID}, {GUIDVLEK, sevabi.VlekGUID}, {GUIDASK, sevabi.AskGUID}, {GUIDARK, sevabi.ArkGUID}} {
		if g.guid.String() != g.text {
			t.Errorf("%s is not %s", g.guid, g.text)
		}
	}
	if got, err := ParseCertificateTable(make([]byte, 24)); err != nil || len(got) != 0 {
		t.Errorf("an empty table: %v, %v", got, err)
	}
}

func TestCertificateTableIsParsedStrictly(t *testing.T) {
	t.Parallel()
	good, err := MarshalCertificateTable([]CertificateEntry{{GUIDVCEK, []byte("12345678")}, {GUIDASK, []byte("abcd")}})
	if err != nil {
		t.Fatal(err)
	}
	set := func(off int, v byte) []byte {
		b := bytes.Clone(good)
		b[off] = v
		return b
	}
	many := bytes.Repeat(good[:24], MaxCertificateEntries+1)
	for i := range MaxCertificateEntries + 1 {
		many[24*i] = byte(i)
	}
	for name, b := range map[string][]byte{
		"nothing":            nil,
		"no end":             good[:48],
		"half an entry":      good[:30],
		"data cut":           good[:len(good)-1],
		"data in the header": set(16, 0),
		"data beyond":        set(17, 1),
		"offset overflows":   slices.Concat(good[:16], []byte{0xff, 0xff, 0xff, 0xff}, good[20:]),
		"empty data":         set(20, 0),
		"entries overlap":    set(24+16, 72),
		"same entry twice":   slices.Concat(good[:24], good[:16], good[40:]),
		"too many":           append(many, make([]byte, 100)...),
		"too large":          make([]byte, MaxCertificateTable+1),
	} {
		if got, err := ParseCertificateTable(b); err == nil {
			t.Errorf("%s: parsed as %v", name, got)
		}
	}
	if _, err := MarshalCertificateTable([]CertificateEntry{{GUIDVCEK, nil}}); err == nil {
		t.Error("an empty certificate: no error")
	}
	if _, err := MarshalCertificateTable([]CertificateEntry{{GUIDVCEK, make([]byte, MaxCertificateTable)}}); err == nil {
		t.Error("a large certificate: no error")
	}
}

func FuzzCertificateTable(f *testing.F) {
	b, err := MarshalCertificateTable([]CertificateEntry{{GUIDVCEK, []byte("12345678")}, {GUIDASK, []byte("abcd")}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := ParseCertificateTable(b)
		if err != nil {
			return
		}
		again, err := MarshalCertificateTable(entries)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseCertificateTable(again)
		if err != nil || !cmp.Equal(entries, back) {
			t.Errorf("%v became %v, %v", entries, back, err)
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add((&ReportRequest{VMPL: 1}).Marshal())
	f.Add((&KeyRequest{Fields: 1}).Marshal())
	f.Add((&KeyResponse{}).Marshal())
	f.Add((&ReportResponse{Report: make([]byte, ReportSize)}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := ParseReportRequest(b); err == nil && !bytes.Equal(m.Marshal(), b) {
			t.Error("MSG_REPORT_REQ changes")
		}
		if m, err := ParseKeyRequest(b); err == nil && !bytes.Equal(m.Marshal(), b) {
			t.Error("MSG_KEY_REQ changes")
		}
		if m, err := ParseReportResponse(b); err == nil && !bytes.Equal(m.Marshal(), b) {
			t.Error("MSG_REPORT_RSP changes")
		}
		if m, err := ParseKeyResponse(b); err == nil && !bytes.Equal(m.Marshal(), b) {
			t.Error("MSG_KEY_RSP changes")
		}
		_, _, _ = ReadFrame(bytes.NewReader(b))
	})
}
