// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestContentRange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][3]int64{
		"bytes 0-0/1":  {0, 0, 1},
		"bytes 5-9/10": {5, 9, 10},
		"bytes 0-9223372036854775806/9223372036854775807": {0, math.MaxInt64 - 1, math.MaxInt64},
		"":                              {},
		"bytes 0-0":                     {},
		"bytes 0-0/*":                   {},
		"bytes */10":                    {},
		"bytes 5-4/10":                  {},
		"bytes 5-10/10":                 {},
		"bytes -1-4/10":                 {},
		"bytes +1-4/10":                 {},
		"Bytes 0-0/1":                   {},
		"items 0-0/1":                   {},
		"bytes 0-0/1 ":                  {},
		"bytes 0-0/9223372036854775808": {},
	} {
		first, last, size, err := parseContentRange(text)
		if got := [3]int64{first, last, size}; got != want || (err == nil) != (want != [3]int64{}) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Range(1, math.MaxInt64).Draw(t, "size")
		last := rapid.Int64Range(0, size-1).Draw(t, "last")
		first := rapid.Int64Range(0, last).Draw(t, "first")
		a, b, c, err := parseContentRange(fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		if err != nil || a != first || b != last || c != size {
			t.Fatalf("%d-%d/%d, %v", a, b, c, err)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-99/100")
	f.Add("bytes */100")
	f.Fuzz(func(t *testing.T, s string) {
		first, last, size, err := parseContentRange(s)
		if err == nil && (first < 0 || first > last || last >= size) {
			t.Errorf("%q: %d-%d/%d", s, first, last, size)
		}
	})
}

func TestLocation(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://host/a/b?sig=hush&x=1":  "https://host/a/b",
		"http://127.0.0.1:10000/a/c%20d": "http://127.0.0.1:10000/a/c%20d",
		"https://user:hush@host/a":       "",
		"ftp://host/hush":                "",
		"https:///hush":                  "",
		"https://host/a#hush":            "",
		"https://host/%zzhush":           "",
		"https://host/a?sig=%zzhush":     "",
		"https://host/a?x=1;sig=hush":    "",
		"https:opaque-hush":              "",
		"://hush":                        "",
	} {
		l, err := ParseLocation(raw)
		if (err == nil) != (want != "") || l.String() != want {
			t.Errorf("%q: %q, %v, want %q", raw, l, err, want)
		}
		text, _ := json.Marshal(map[string]any{"l": fmt.Sprintf("%v %+v %#v %s", l, l, l, l), "err": fmt.Sprint(err)})
		if strings.Contains(string(text), "hush") {
			t.Errorf("%q: prints %s", raw, text)
		}
	}
}

// FuzzLocation holds what may be logged of any URL to be free of its parameters.
func FuzzLocation(f *testing.F) {
	f.Add("https://host:1/a%20b?sig=x")
	f.Add("http://user@host/?a=1&b")
	f.Fuzz(func(t *testing.T, raw string) {
		l, err := ParseLocation(raw)
		if err != nil {
			return
		}
		again, err := ParseLocation(l.String())
		if err != nil || again.HasQuery() || strings.ContainsAny(l.String(), "?#@\r\n") && !strings.Contains(l.Path(), "@") {
			t.Errorf("%q prints as %q, %v", raw, l, err)
		}
		if l.HasQuery() && !strings.HasSuffix(l.url(nil).String(), l.query.Reveal()) {
			t.Errorf("%q is asked for as something else", raw)
		}
	})
}

func TestSecretsHide(t *testing.T) {
	t.Parallel()
	s := NewSecret("hush")
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", slog.Any("secret", s))
	text, err := json.Marshal(s)
	if all := fmt.Sprintf("%v %+v %#v %s %q %x", s, s, s, s, s, s) + string(text) + log.String(); err != nil || strings.Contains(all, "hush") || strings.Contains(all, "68757368") {
		t.Errorf("it prints as %s, %v", all, err)
	}
	if s.Reveal() != "hush" || s.IsZero() || !(Secret{}).IsZero() {
		t.Error("it is not what was put in")
	}
}

func TestPin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ tag, modified, want string }{
		{`"x"`, "", `etag "x"`},
		{`"x"`, "Thu, 26 Nov 2026 01:02:03 GMT", `etag "x"`},
		{`W/"x"`, "Thu, 26 Nov 2026 01:02:03 GMT", "modified Thu, 26 Nov 2026 01:02:03 GMT"},
		{`W/"x"`, "", ""},
		{`"x`, "", ""},
		{`"a", "b"`, "", ""},
		{`""`, "", ""},
		{"", "yesterday", ""},
		{`"` + strings.Repeat("x", 2000) + `"`, "", ""},
	} {
		h := http.Header{"Etag": {c.tag}, "Last-Modified": {c.modified}}
		p, err := NewPin(h)
		if (err == nil) != (c.want != "") || err == nil && p.String() != c.want || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%v: %q, %v, want %q", h, p, err, c.want)
		}
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	busy := func(wait time.Duration) error { return &Error{Temporary: true, Wait: wait, Err: errors.New("busy")} }
	for _, c := range []struct {
		name   string
		answer []error
		want   []time.Duration
		is     error
	}{
		{"at once", []error{nil}, nil, nil},
		{"for good", []error{ErrDenied}, nil, ErrDenied},
		{"doubling", []error{busy(0), busy(0), busy(0), nil}, []time.Duration{100, 200, 400}, nil},
		{"up to a bound", []error{busy(0), busy(0), busy(0), busy(0), busy(0), nil}, []time.Duration{100, 200, 400, 500, 500}, nil},
		{"as asked for", []error{busy(10 * time.Second), nil}, []time.Duration{10_050}, nil},
		{"longer than there is", []error{busy(time.Hour)}, nil, ErrDeadline},
		{"then for good", []error{busy(0), ErrFenced}, []time.Duration{100}, ErrFenced},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var pauses []time.Duration
			tries := 0
			b := Backoff{
				FirstPause: 100 * time.Millisecond, MaxPause: 500 * time.Millisecond,
				Sleep: func(_ context.Context, d time.Duration) error {
					pauses = append(pauses, d/time.Millisecond)
					return nil
				},
				Jitter: func(d time.Duration) time.Duration { return d / 2 },
			}
			err := b.Do(t.Context(), func(context.Context) error { tries++; return c.answer[tries-1] })
			if diff := cmp.Diff(c.want, pauses); diff != "" {
				t.Errorf("pauses in ms differ (-want +got):\n%s", diff)
			}
			if tries != len(c.answer) || !errors.Is(err, c.is) {
				t.Errorf("after %d tries: %v, want %v", tries, err, c.is)
			}
		})
	}
}

func TestBackoffGivesUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("nobody wants it any more")
	err := Backoff{}.Do(ctx, func(context.Context) error { cancel(why); return &Error{Temporary: true} })
	if !errors.Is(err, why) || errors.Is(err, ErrDeadline) {
		t.Errorf("when the caller gives up: %v", err)
	}
	slow := Backoff{Attempt: time.Millisecond, Deadline: 20 * time.Millisecond, FirstPause: time.Microsecond, MaxPause: time.Microsecond}
	err = slow.Do(t.Context(), func(ctx context.Context) error { <-ctx.Done(); return &Error{Temporary: true, Err: ctx.Err()} })
	if !errors.Is(err, ErrDeadline) {
		t.Errorf("when nothing answers: %v", err)
	}
}

func TestPlainCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{"BlobNotFound": "BlobNotFound", "": "", "a b": "", "x\n": "", "é": "", strings.Repeat("x", 65): ""} {
		if got := PlainCode(code); got != want {
			t.Errorf("%q: %q, want %q", code, got, want)
		}
	}
}
