// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a clock that stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// buffer is a writer that two goroutines may use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestQuietShowsNothing(t *testing.T) {
	t.Parallel()
	var out buffer
	b := New(&out, Quiet, time.Now)
	s := b.Start("layer", 10)
	s.Set(10, 0)
	s.Done("cached")
	b.Close()
	if out.String() != "" {
		t.Errorf("quiet wrote %q", out.String())
	}
}

func TestLinesNameEachStepOnce(t *testing.T) {
	t.Parallel()
	var out buffer
	c := &clock{}
	b := New(&out, Lines, c.now)
	s := b.Start("layer 1", 10)
	c.pass(1500 * time.Millisecond)
	s.Set(10, 0)
	s.Done("root 00ff")
	s.Done("twice")
	b.Close()
	want := "layer 1 (1.5s): root 00ff\n"
	if out.String() != want {
		t.Errorf("wrote %q, want %q", out.String(), want)
	}
}

func TestBarsAppearAfterASecondAndVanish(t *testing.T) {
	t.Parallel()
	var out buffer
	c := &clock{}
	b := New(&out, Bars, c.now)
	s := b.Start("a layer with a name that is much too long", 100<<20)
	s.Set(50<<20, 0)
	time.Sleep(3 * redrawEvery)
	if out.String() != "" {
		t.Errorf("a bar was drawn before its second had passed: %q", out.String())
	}
	c.pass(2 * time.Second)
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(out.String(), "50%") && time.Now().Before(deadline) {
		time.Sleep(redrawEvery / 4)
	}
	b.Close()
	got := out.String()
	want := "a layer with a name that is .. [############............]  50% 100.0 MiB\n"
	if !strings.HasPrefix(got, want) {
		t.Errorf("drew %q, want it to begin with %q", got, want)
	}
	if !strings.HasSuffix(got, "\x1b[1A\x1b[J") {
		t.Errorf("the bar was left on the terminal: %q", got)
	}
}

func TestStepOfUnknownSize(t *testing.T) {
	t.Parallel()
	began := time.Unix(0, 0)
	s := &Step{name: "boot", began: began, done: 3 << 10}
	got := s.line(began.Add(7 * time.Second))
	if !strings.Contains(got, "3 KiB") || !strings.Contains(got, "7s") || strings.Contains(got, "%") {
		t.Errorf("drew %q", got)
	}
}

func TestOverfullBarStaysInItsCells(t *testing.T) {
	t.Parallel()
	s := &Step{name: "x", total: 1, done: 5}
	got := s.line(time.Time{})
	if !strings.Contains(got, "["+strings.Repeat("#", barWidth)+"] 100%") {
		t.Errorf("drew %q", got)
	}
}

func TestNilBoardIsSilent(t *testing.T) {
	t.Parallel()
	var b *Board
	s := b.Start("x", 1)
	s.Set(1, 1)
	s.Done("")
	b.Print("x")
	b.Close()
}
