// SPDX-License-Identifier: Apache-2.0

package plain

import (
	"bytes"
	"context"
	"testing"
	"time"

	"cofferdam.dev/verify"
)

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain": "plain", "a\x1b[2Jb": "a?[2Jb", "a\r\nb": "a??b", "\u009b31m": "?31m", "naïve": "naïve", "bad\xff": "bad\ufffd",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	got := Command([]string{"sh", "-c", `echo "$HOME"`, "", "a;b", "plain"})
	want := `sh -c "echo \"$HOME\"" "" "a;b" plain`
	if got != want {
		t.Errorf("command is %s, want %s", got, want)
	}
}

// Whatever the verifier draws comes out as ASCII.
func TestDrawingOfAVerdict(t *testing.T) {
	t.Parallel()
	v := verify.Appraise(context.Background(), nil, verify.Options{Now: time.Unix(1700000000, 0)})
	var b bytes.Buffer
	err := verify.Render(&b, v, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Drawing(b.String() + "✓ └─ ├─ │ … · ✗") {
		if r > 0x7e {
			t.Errorf("%q is left in the picture", r)
		}
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	if got := Text("one\n\ttwo\x1b[2J\r\n"); got != "one\n    two?[2J?\n" {
		t.Errorf("it becomes %q", got)
	}
}
