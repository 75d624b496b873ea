// SPDX-License-Identifier: Apache-2.0

package event

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func open(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	l.now = func() time.Time {
		at = at.Add(time.Second)
		return at
	}
	return l
}

func add(t *testing.T, l *Log, container, name, message string) {
	t.Helper()
	err := l.Add(container, name, Normal, message)
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, path string, o Options) []string {
	t.Helper()
	var got []string
	err := Read(t.Context(), path, o, func(e Event) error {
		got = append(got, fmt.Sprintf("%s %s %s %d %s %s", e.Container, e.Name, e.Message, e.Count, e.First.Format("05"), e.Last.Format("05")))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestCoalesce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	if got := list(t, path, Options{}); len(got) > 0 {
		t.Errorf("no file holds %q", got)
	}
	l := open(t, path)
	add(t, l, "a", Started, "started")
	add(t, l, "a", BackOff, "again")
	add(t, l, "b", BackOff, "again")
	add(t, l, "a", BackOff, "again")
	want := []string{"a Started started 1 06 06", "b BackOff again 1 08 08", "a BackOff again 2 07 09"}
	if d := cmp.Diff(want, list(t, path, Options{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want[1:2], list(t, path, Options{Container: "b"})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(want[2:], list(t, path, Options{Since: l.now().Add(-time.Second)})); d != "" {
		t.Error(d)
	}
}

// TestTorn kills the writer in the middle of a line, at every byte of it.
func TestTorn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := open(t, path)
	add(t, l, "a", Started, "one")
	first, _ := os.ReadFile(path)
	add(t, l, "a", Started, "two")
	all, _ := os.ReadFile(path)
	for cut := len(first); cut < len(all); cut++ {
		torn := filepath.Join(t.TempDir(), "events.jsonl")
		err := os.WriteFile(torn, all[:cut], 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if got := list(t, torn, Options{}); len(got) != 1 {
			t.Fatalf("cut at %d: %q", cut, got)
		}
		again := open(t, torn)
		add(t, again, "a", Started, "three")
		if got := list(t, torn, Options{}); len(got) != 2 || !strings.Contains(got[1], "three") {
			t.Fatalf("cut at %d, then written to: %q", cut, got)
		}
	}
}

// TestBounded keeps the newest events and their counts, however many there are.
func TestBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := open(t, path)
	for i := range 5 * MaxEvents {
		add(t, l, "", "Odd", fmt.Sprint(i%(2*MaxEvents)))
	}
	got := list(t, path, Options{})
	if len(got) != MaxEvents || !strings.HasPrefix(got[MaxEvents-1], fmt.Sprintf(" Odd %d ", MaxEvents-1)) {
		t.Errorf("%d events, the last is %q", len(got), got[len(got)-1])
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() > maxSize {
		t.Errorf("the file has %d bytes, %v", info.Size(), err)
	}
	err = l.Add("", "Long", Warning, strings.Repeat("ä", MaxMessage))
	if err != nil {
		t.Fatal(err)
	}
	got = list(t, path, Options{})
	if m := got[len(got)-1]; len(m) > MaxMessage+40 || !strings.Contains(m, "ä…") {
		t.Errorf("a long message became %d bytes", len(m))
	}
}

// TestFollow reads across a rewriting of the file.
func TestFollow(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "events.jsonl")
	l := open(t, path)
	add(t, l, "", "First", "x")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan Event, 100)
	done := make(chan error, 1)
	go func() {
		done <- Read(ctx, path, Options{Follow: true, Alive: func() bool { return ctx.Err() == nil }}, func(e Event) error {
			got <- e
			return nil
		})
	}()
	if e := <-got; e.Name != "First" {
		t.Errorf("got %+v", e)
	}
	l.mu.Lock()
	err := l.rewrite()
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, "", "Second", "y")
	if e := <-got; e.Name != "Second" {
		t.Errorf("got %+v", e)
	}
	add(t, l, "", "First", "x")
	if e := <-got; e.Name != "First" || e.Count != 2 {
		t.Errorf("got %+v", e)
	}
	cancel()
	if err = <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain":                 "plain",
		"two\nlines\tand  more": "two lines and more",
		"\x1b[31mred\x00\x9b":   "[31mred",
		"":                      "",
		"ok \xff\xfe é":         "ok é",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name":"Started","type":"Normal","message":"m","count":1}` + "\n"))
	f.Add([]byte("{}\n{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "events.jsonl")
		err := os.WriteFile(path, data, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		before := list(t, path, Options{})
		l := open(t, path)
		add(t, l, "c", "New", "unheard of")
		after := list(t, path, Options{})
		if len(after) == 0 || !strings.HasPrefix(after[len(after)-1], "c New") || len(after) < min(len(before), MaxEvents) {
			t.Errorf("%d events before, after: %q", len(before), after)
		}
	})
}
