// SPDX-License-Identifier: Apache-2.0

package denial

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/ulikunitz/xz"

	"cofferdam.dev/internal/testcap"
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]*Denial{
		"reasons":      New("mount_device", map[string]any{"target": "/x"}, []string{"deviceHash not found"}),
		"no input":     New("dump_stacks", nil, []string{"a", "b"}),
		"remark":       {Input: map[string]any{"rule": "x"}, Remark: "none given"},
		"policy error": {Input: map[string]any{"rule": "x"}, Errors: []string{}, PolicyError: "rule for x is missing"},
		"objects":      {Input: map[string]any{"rule": "x"}, Errors: []string{"e"}, ErrorObjects: []any{map[string]any{"a": 1.0}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message, err := d.Encode()
			if err != nil {
				t.Fatal(err)
			}
			got, err := Decode("rpc error: code = Unknown: " + message + ": unknown\n")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(d, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRedaction(t *testing.T) {
	t.Parallel()
	input := map[string]any{
		"envList": []any{"A=secret", "B=se=cret", "secretless"}, "capabilities": Capabilities(Unprivileged),
	}
	d := New("create_container", input, []string{"invalid command"})
	want := []string{"A=<<redacted>>", "B=<<redacted>>", "secretless=<<redacted>>"}
	if diff := cmp.Diff(want, d.Input["envList"]); diff != "" {
		t.Error(diff)
	}
	if d.Input["capabilities"] != Unprivileged || d.Point() != "create_container" {
		t.Errorf("%v", d.Input)
	}
	if _, changed := input["capabilities"].(string); changed || input["rule"] != nil {
		t.Error("the caller's input was changed")
	}
	if p := placeholder(Capabilities(Privileged)); p != Privileged {
		t.Errorf("privileged: %q", p)
	}
	more := Capabilities(Unprivileged)
	more["effective"] = append(more["effective"], "CAP_BPF")
	if p := placeholder(more); p != "" {
		t.Errorf("more than the default is %q", p)
	}
}

// TestTruncation makes each part too long in turn.
func TestTruncation(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxMessage)
	for name, c := range map[string]struct {
		d    Denial
		want []string
	}{
		"objects":    {Denial{Input: map[string]any{"a": "b"}, Errors: []string{"e"}, ErrorObjects: []any{long}}, []string{TruncatedErrorObjects}},
		"input":      {Denial{Input: map[string]any{"a": long}, Errors: []string{"e"}, ErrorObjects: []any{"o"}}, []string{TruncatedErrorObjects, TruncatedInput}},
		"no objects": {Denial{Input: map[string]any{"a": long}, Errors: []string{"e"}}, []string{TruncatedInput}},
		"reason":     {Denial{Input: map[string]any{"a": "b"}, Errors: []string{long}}, []string{TruncatedInput, TruncatedReason}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			message, err := c.d.Encode()
			if err != nil || len(message) > MaxMessage {
				t.Fatalf("%d bytes, %v", len(message), err)
			}
			got, err := Decode(message)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Truncated); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "no denial": "container died", "bad base64": "policyDecision< a >policyDecision",
		"no JSON": "policyDecision< aGk= >policyDecision", "an allowance": `{"decision":"allow"}`,
		"odd reason": `{"decision":"deny","reason":7}`, "too long": strings.Repeat(" ", maxInput+1),
	} {
		if d, err := Decode(text); err == nil {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestRecordedDenials makes each recorded denial anew from its request: the same redaction, the same placeholders.
func TestRecordedDenials(t *testing.T) {
	t.Parallel()
	file, err := os.Open(testcap.Vectors(t, "policy-traces/traces.jsonl.xz"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	z, err := xz.NewReader(bufio.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for dec := json.NewDecoder(z); dec.More(); {
		var r struct {
			T, Point string
			Input    map[string]any
			Allowed  bool
			Decision json.RawMessage
		}
		if err := dec.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.T != "step" || r.Allowed || r.Point == "load_fragment" {
			continue
		}
		want, err := Decode(string(r.Decision))
		if err != nil {
			t.Fatalf("%s: %v", r.Decision, err)
		}
		n++
		d := New(r.Point, r.Input, want.Errors)
		d.ErrorObjects, d.Remark, d.PolicyError = want.ErrorObjects, want.Remark, want.PolicyError
		if want.PolicyError != "" && want.Point() == "" {
			delete(d.Input, "rule") // recorded without, where the policy could not be asked
		}
		if len(want.Truncated) > 0 {
			continue // what was left out is not known
		}
		message, err := d.message() // the recorder had no limit
		if err != nil {
			t.Fatal(err)
		}
		got, err := Decode(message)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-recorded +ours):\n%s", r.Point, diff)
		}
	}
	if n < 90 {
		t.Errorf("only %d denials were recorded", n)
	}
}

func FuzzDecode(f *testing.F) {
	message, err := New("create_container", map[string]any{"envList": []string{"A=b"}}, []string{"invalid command"}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add(`{"decision":"deny","reason":{"errors":["a"],"error_objects":[{}]},"truncated":["input"]}`)
	f.Add(`{"decision":"deny","reason":"no reason","policyError":"x"}`)
	f.Fuzz(func(t *testing.T, text string) {
		d, err := Decode(text)
		if err != nil {
			return
		}
		message, err := d.Encode()
		if err != nil {
			return
		}
		if len(message) > MaxMessage {
			t.Fatalf("%d bytes", len(message))
		}
		again, err := Decode(message)
		if err != nil {
			t.Fatalf("%q: %v", message, err)
		}
		if len(again.Truncated) == len(d.Truncated) {
			if diff := cmp.Diff(d, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// TestLast finds the latest of several denials in a log.
func TestLast(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	for _, reason := range []string{"first", "second"} {
		message, err := New("create_container", nil, []string{reason}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		log.WriteString("level=WARN msg=\"refused\" decision=\"" + message + "\"\nlevel=INFO msg=\"something else\"\n")
	}
	d, err := Last(log.String())
	if err != nil || d.Errors[0] != "second" {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := Last("policyDecision< and nothing else"); !errors.Is(err, ErrNone) {
		t.Errorf("an empty log: %v", err)
	}
	if _, err := Last(strings.Repeat("x", maxInput+1)); err == nil {
		t.Error("a log without end was read")
	}
}

// TestWords are no denials, though some are base64.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "junk", "nosuch.txt", "policyDecision", "policyDecision< x >policyDecision"} {
		_, err := Decode(text)
		if err == nil || !strings.Contains(err.Error(), "found neither") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
