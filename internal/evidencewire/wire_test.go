// SPDX-License-Identifier: Apache-2.0

package evidencewire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/evidence"
)

func drawRequest(t *rapid.T) *Request {
	if rapid.Bool().Draw(t, "raw") {
		return &Request{ReportData: (*[64]byte)(rapid.SliceOfN(rapid.Byte(), 64, 64).Draw(t, "report data"))}
	}
	r := &Request{Nonce: rapid.SliceOfN(rapid.Byte(), evidence.MinNonceSize, evidence.MaxNonceSize).Draw(t, "nonce")}
	if data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"); len(data) > 0 {
		r.RuntimeData = data
	}
	return r
}

func TestRequestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := drawRequest(t)
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(b, '\n') != len(b)-1 {
			t.Fatalf("%q is not one line", b)
		}
		got, err := ParseRequest(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// TestLargestRequestFits makes sure that the limits of fields and line agree.
func TestLargestRequestFits(t *testing.T) {
	t.Parallel()
	r := &Request{Nonce: make([]byte, evidence.MaxNonceSize), RuntimeData: make([]byte, MaxRuntimeData)}
	b, err := r.Marshal()
	if err == nil {
		_, err = ParseRequest(b)
	}
	if err != nil {
		t.Error(err)
	}
	r.RuntimeData = append(r.RuntimeData, 0)
	if _, err = r.Marshal(); err == nil {
		t.Error("more runtime data than allowed: no error")
	}
}

func TestRequestsAreParsedStrictly(t *testing.T) {
	t.Parallel()
	const nonce, data = `"nonce":"AAECAwQFBgc="`, `"runtimeData":"AQ=="`
	sixtyFour := `"reportData":"` + strings.Repeat("AAAA", 21) + `AA=="`
	for _, good := range []string{"{" + nonce + "}", "{" + nonce + "," + data + "}\n", " {" + sixtyFour + " }"} {
		if _, err := ParseRequest([]byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for name, text := range map[string]string{
		"nothing":              "",
		"empty object":         "{}",
		"array":                "[]",
		"null":                 "null",
		"two objects":          "{" + nonce + "}{" + nonce + "}",
		"no nonce":             "{" + data + "}",
		"short nonce":          `{"nonce":"AAECAwQFBg=="}`,
		"nonce twice":          "{" + nonce + "," + nonce + "}",
		"capital key":          `{"Nonce":"AAECAwQFBgc="}`,
		"unknown key":          "{" + nonce + `,"source":"host"}`,
		"null nonce":           `{"nonce":null}`,
		"number":               `{"nonce":12345678}`,
		"base64 without pad":   `{"nonce":"AAECAwQFBgc"}`,
		"base64 of URLs":       `{"nonce":"__-_AwQFBgc="}`,
		"base64 with a break":  `{"nonce":"AAEC\nAwQFBgc="}`,
		"loose last bits":      `{"nonce":"AAECAwQFBgd="}`,
		"report data short":    `{"reportData":"AAAA"}`,
		"report data empty":    `{"reportData":""}`,
		"both":                 "{" + sixtyFour + "," + nonce + "}",
		"report and data":      "{" + sixtyFour + "," + data + "}",
		"report and no data":   "{" + sixtyFour + `,"runtimeData":""}`,
		"too much":             "{" + nonce + `,"runtimeData":"` + strings.Repeat("AAAA", MaxRuntimeData/3+1) + `"}`,
		"longer than any line": "{" + nonce + "}" + strings.Repeat(" ", MaxRequest),
	} {
		if r, err := ParseRequest([]byte(text)); err == nil {
			t.Errorf("%s: it is taken for %+v", name, r)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	doc := &evidence.Document{Type: evidence.TypeSEVSNP, Report: []byte{1}, Source: evidence.SourceWorkload, Nonce: []byte("12345678")}
	b, err := MarshalDocument(doc)
	if err != nil || bytes.IndexByte(b, '\n') != len(b)-1 {
		t.Fatalf("%q, %v", b, err)
	}
	got, err := ParseDocument(b)
	if diff := cmp.Diff(doc, got); err != nil || diff != "" {
		t.Errorf("document: %v (-want +got):\n%s", err, diff)
	}
	report := &Report{Type: evidence.TypeTDX, Report: []byte{2}, Certificates: []byte{3}}
	b, err = report.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ParseReport(b)
	if diff := cmp.Diff(report, raw); err != nil || diff != "" {
		t.Errorf("report: %v (-want +got):\n%s", err, diff)
	}
	if _, err = ParseDocument(b); err == nil {
		t.Error("a report is taken for a document")
	}
	said := &Error{Code: CodeBusy, Message: strings.Repeat("ü", maxMessage)}
	for _, parse := range []func([]byte) error{
		func(b []byte) error { _, err := ParseDocument(b); return err },
		func(b []byte) error { _, err := ParseReport(b); return err },
	} {
		err = parse(said.Marshal())
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBusy || len(e.Message) > maxMessage || !strings.HasPrefix(e.Error(), "busy: ü") {
			t.Errorf("an error is read as %v", err)
		}
	}
	for name, text := range map[string]string{
		"error and more":    `{"error":{"code":"busy","message":""},"type":"tdx"}`,
		"error as text":     `{"error":"busy"}`,
		"error of a number": `{"error":{"code":1,"message":""}}`,
		"no report":         `{"type":"tdx","report":""}`,
		"no type":           `{"report":"AA=="}`,
		"more":              `{"type":"tdx","report":"AA==","source":"host"}`,
	} {
		var e *Error
		if r, err := ParseReport([]byte(text)); err == nil || errors.As(err, &e) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	large := &Report{Type: evidence.TypeTDX, Report: make([]byte, MaxAnswer)}
	if _, err = large.Marshal(); err == nil {
		t.Error("an answer that is too long is written")
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"nonce":"AAECAwQFBgc=","runtimeData":"AQ=="}`))
	f.Add([]byte(`{"reportData":"AAAA"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		line, err := r.Marshal()
		if err != nil {
			t.Fatalf("%q is read but can not be written: %v", b, err)
		}
		again, err := ParseRequest(line)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.RuntimeData) == 0 {
			r.RuntimeData = nil // an empty field and none are one
		}
		if diff := cmp.Diff(r, again); diff != "" {
			t.Errorf("%q changes (-want +got):\n%s", b, diff)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"error":{"code":"busy","message":"x"}}`))
	f.Add([]byte(`{"type":"tdx","report":"AA=="}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = ParseReport(b)
		_, _ = ParseDocument(b)
	})
}
