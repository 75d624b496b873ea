// SPDX-License-Identifier: Apache-2.0

// Package progress shows on a terminal how far long steps are.
//
// On a terminal each step that lasts longer than a second gets a bar that vanishes when the step is done; elsewhere
// nothing moves, and on request each finished step is one line. It writes to the one writer that it was given, never
// to standard output of its own accord, and a writer that fails makes it silent instead of failing the work.
package progress

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mode says what is shown. The zero value shows nothing.
type Mode int

// The modes.
const (
	Quiet Mode = iota // nothing
	Lines             // one line for each finished step
	Bars              // bars while steps run; for terminals
)

const (
	// showAfter is how long a step runs before it gets a bar.
	showAfter = time.Second
	// redrawEvery is the time between two pictures.
	redrawEvery = 100 * time.Millisecond
	// barWidth is the number of cells of a bar, nameWidth that of its name.
	barWidth  = 24
	nameWidth = 30
)

// Board holds the steps that run and draws them. A nil Board shows nothing.
type Board struct {
	mode Mode
	now  func() time.Time

	mu    sync.Mutex
	out   io.Writer
	steps []*Step
	drawn int    // lines on the terminal that the next picture replaces
	last  string // what they say
	stop  chan struct{}
	gone  chan struct{}
}

// New returns a board that draws to out. Close must be called to free it.
func New(out io.Writer, mode Mode, now func() time.Time) *Board {
	b := &Board{mode: mode, now: now, out: out, stop: make(chan struct{}), gone: make(chan struct{})}
	if mode != Bars {
		close(b.gone)
		return b
	}
	go b.redraw()
	return b
}

func (b *Board) redraw() {
	defer close(b.gone)
	t := time.NewTicker(redrawEvery)
	defer t.Stop()
	for {
		select {
		case <-b.stop:
			return
		case <-t.C:
			b.mu.Lock()
			b.draw()
			b.mu.Unlock()
		}
	}
}

// Close wipes what is drawn and ends the board. Steps that still run are forgotten.
func (b *Board) Close() {
	if b == nil {
		return
	}
	b.mu.Lock()
	select {
	case <-b.stop:
	default:
		close(b.stop)
	}
	b.steps = nil
	b.draw()
	b.mu.Unlock()
	<-b.gone
}

// Step is one piece of work. A nil Step counts nothing.
type Step struct {
	board       *Board
	name        string
	done, total int64
	began       time.Time
}

// Start begins a step of total units (bytes), zero if that is not known.
func (b *Board) Start(name string, total int64) *Step {
	if b == nil {
		return nil
	}
	s := &Step{board: b, name: name, total: total, began: b.now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.steps = append(b.steps, s)
	return s
}

// Set says that done of total units are finished; a total of zero leaves the one known before.
func (s *Step) Set(done, total int64) {
	if s == nil {
		return
	}
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.done = done
	if total > 0 {
		s.total = total
	}
}

// Done ends the step with a remark for the log line, which may be empty.
func (s *Step) Done(remark string) {
	if s == nil {
		return
	}
	b := s.board
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.steps, s)
	if i < 0 {
		return
	}
	b.steps = slices.Delete(b.steps, i, i+1)
	if b.mode != Lines {
		return
	}
	if remark != "" {
		remark = ": " + remark
	}
	_, _ = fmt.Fprintf(b.out, "%s (%.1fs)%s\n", s.name, b.now().Sub(s.began).Seconds(), remark) // see the package comment
}

// draw replaces the picture on the terminal. The caller holds the lock.
func (b *Board) draw() {
	if b.mode != Bars {
		return
	}
	var picture strings.Builder
	lines := 0
	for _, s := range b.steps {
		if b.now().Sub(s.began) < showAfter {
			continue
		}
		picture.WriteString(s.line(b.now()))
		picture.WriteByte('\n')
		lines++
	}
	if picture.String() == b.last {
		return
	}
	_, _ = io.WriteString(b.out, b.wipe()+picture.String()) // see the package comment
	b.drawn, b.last = lines, picture.String()
}

// wipe returns what removes the picture from the terminal: up to its first line, then clear all below.
func (b *Board) wipe() string {
	if b.drawn == 0 {
		return ""
	}
	w := fmt.Sprintf("\x1b[%dA\x1b[J", b.drawn)
	b.drawn, b.last = 0, ""
	return w
}

// line is the picture of one step, in ASCII.
func (s *Step) line(now time.Time) string {
	name := s.name
	if len(name) > nameWidth {
		name = name[:nameWidth-2] + ".."
	}
	if s.total <= 0 {
		return fmt.Sprintf("%-*s %s %4.0fs", nameWidth, name, units(s.done), now.Sub(s.began).Seconds())
	}
	part := min(float64(s.done)/float64(s.total), 1)
	full := int(part * barWidth)
	return fmt.Sprintf("%-*s [%s%s] %3.0f%% %s", nameWidth, name,
		strings.Repeat("#", full), strings.Repeat(".", barWidth-full), part*100, units(s.total))
}

// units writes a number of bytes for people.
func units(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	case n < 10<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// Print writes a message above whatever is drawn, so that the two do not mix.
func (b *Board) Print(message string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = io.WriteString(b.out, b.wipe()+message) // see the package comment
}
