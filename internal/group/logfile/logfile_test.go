// SPDX-License-Identifier: Apache-2.0

package logfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

func open(t *testing.T, maxSize int64) (*Writer, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.log")
	w, err := Create(path, maxSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w, path
}

// collect reads a log and returns what each stream printed.
func collect(t *testing.T, path string, opts Options) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := Read(context.Background(), path, opts, func(e Entry) error {
		got[e.Stream] += string(e.Bytes())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestBytesSurvive writes random pieces of two streams and reads the same bytes back.
func TestBytesSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		w, err := Create(path, 0)
		if err != nil {
			rt.Fatal(err)
		}
		want := map[string]string{}
		for range rapid.IntRange(0, 20).Draw(rt, "pieces") {
			stream := rapid.SampledFrom([]string{Stdout, Stderr}).Draw(rt, "stream")
			data := rapid.SliceOfN(rapid.SampledFrom([]byte("ab \n\r\x00\xff")), 0, 50).Draw(rt, "data")
			err = w.Append(stream, data)
			if err != nil {
				rt.Fatal(err)
			}
			if len(data) > 0 {
				want[stream] += string(data)
			}
		}
		_ = w.Close()
		got := collect(t, path, Options{})
		if got[Stdout] != want[Stdout] || got[Stderr] != want[Stderr] {
			rt.Fatalf("got %q, want %q", got, want)
		}
	})
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	w, path := open(t, 0)
	want := strings.Repeat("x", 3*maxPiece+7) + "\n" + strings.Repeat("y", maxPiece) + "\n"
	err := w.Append(Stdout, []byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if got := collect(t, path, Options{})[Stdout]; got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	const limit = 4096
	w, path := open(t, limit)
	for i := range 1000 {
		err := w.Append(Stdout, fmt.Appendf(nil, "line %d\n", i))
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, path + Rotated} {
		info, err := os.Stat(p)
		if err != nil || info.Size() > limit || info.Size() == 0 {
			t.Errorf("%s: %v, %v", p, info.Size(), err)
		}
	}
	got := strings.Split(strings.TrimSpace(collect(t, path, Options{})[Stdout]), "\n")
	if len(got) < 50 || got[len(got)-1] != "line 999" {
		t.Fatalf("%d lines are left, last %q", len(got), got[len(got)-1])
	}
	for i, line := range got {
		if want := fmt.Sprintf("line %d", 1000-len(got)+i); line != want {
			t.Fatalf("line is %q, want %q", line, want)
		}
	}
	if got := collect(t, path, Options{Tail: 3})[Stdout]; got != "line 997\nline 998\nline 999\n" {
		t.Errorf("tail is %q", got)
	}
}

// TestRotatedInBetween opens a log that is rotated after its current file was opened: the same file is found twice.
func TestRotatedInBetween(t *testing.T) {
	t.Parallel()
	w, path := open(t, 0)
	err := errors.Join(w.Append(Stdout, []byte("once\n")), os.Link(path, path+Rotated))
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []Options{{}, {Tail: 1}} {
		if got := collect(t, path, opts)[Stdout]; got != "once\n" {
			t.Errorf("log is %q", got)
		}
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	w, path := open(t, 0)
	_ = w.Append(Stdout, []byte("one\n"))
	_ = w.Close()
	if err := w.Append(Stdout, []byte("lost\n")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("writing a closed log: %v", err)
	}
	w, err := Create(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Append(Stdout, []byte("two\n"))
	_ = w.Close()
	if got := collect(t, path, Options{})[Stdout]; got != "one\ntwo\n" {
		t.Errorf("log is %q", got)
	}
}

func TestSince(t *testing.T) {
	t.Parallel()
	w, path := open(t, 0)
	w.now = func() time.Time { return time.Unix(100, 0) }
	_ = w.Append(Stdout, []byte("old\n"))
	w.now = func() time.Time { return time.Unix(200, 5) }
	_ = w.Append(Stdout, []byte("new\n"))
	if got := collect(t, path, Options{Since: time.Unix(150, 0)})[Stdout]; got != "new\n" {
		t.Errorf("log since is %q", got)
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	const limit, lines = 2048, 400
	w, path := open(t, limit)
	var ended atomic.Bool
	var seen atomic.Int64
	go func() {
		defer ended.Store(true)
		for i := range int64(lines) {
			// Never as many lines ahead as a file has: the follower sees each file, however slow it is.
			for i > seen.Load()+30 && t.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			_ = w.Append(Stdout, fmt.Appendf(nil, "%d\n", i))
		}
	}()
	var got bytes.Buffer
	err := Read(t.Context(), path, Options{Follow: true, Alive: func() bool { return !ended.Load() }}, func(e Entry) error {
		_, err := got.Write(e.Bytes())
		seen.Add(1)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for i := range lines {
		want += fmt.Sprintf("%d\n", i)
	}
	if got.String() != want {
		t.Errorf("followed %d bytes, want %d", got.Len(), len(want))
	}
}

// TestLastRotation has a log that is rotated for the last time, and ends, after the follower has looked for a rotation.
func TestLastRotation(t *testing.T) {
	t.Parallel()
	w, path := open(t, 200)
	want := ""
	write := func(n int) {
		for i := range n {
			line := fmt.Sprintf("%d of %d\n", i, n)
			want += line
			err := w.Append(Stdout, []byte(line))
			if err != nil {
				t.Error(err)
			}
		}
	}
	write(1)
	opts := Options{Follow: true, Alive: func() bool {
		write(5)
		return false
	}}
	if got := collect(t, path, opts)[Stdout]; got != want {
		t.Errorf("followed %q, want %q", got, want)
	}
	if _, err := os.Stat(path + Rotated); err != nil {
		t.Errorf("the log was not rotated: %v", err)
	}
}

func TestFollowEnds(t *testing.T) {
	t.Parallel()
	_, path := open(t, 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Read(ctx, path, Options{Follow: true, Alive: func() bool { return true }}, func(Entry) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if got := collect(t, path+"-that-is-not-there", Options{Follow: true}); len(got) != 0 {
		t.Errorf("a missing log holds %q", got)
	}
}

// TestSnapshot sees a log as it was, whatever happens to it later.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	w, path := open(t, 200)
	_ = w.Append(Stdout, []byte("one\n"))
	_ = w.Append(Stderr, []byte("two"))
	s, err := Take(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		_ = w.Append(Stdout, []byte("later\n"))
	}
	got := ""
	err = s.Each(t.Context(), func(e Entry) error {
		got += string(e.Bytes())
		return nil
	})
	if err != nil || got != "one\ntwo" {
		t.Errorf("snapshot holds %q, %v", got, err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full")
	}
	path := filepath.Join(t.TempDir(), "c.log")
	err := os.Symlink("/dev/full", path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Create(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	err = w.Append(Stdout, []byte("lost\n"))
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error is %v", err)
	}
	n, reason := w.Dropped()
	if n == 0 || reason == nil {
		t.Errorf("%d bytes dropped, %v", n, reason)
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "2025", "2025-01-01T00:00:00Z stdout", "2025-01-01T00:00:00Z stdout F", "x stdout F data",
		"2025-01-01T00:00:00Z stdin F data", "2025-01-01T00:00:00Z stdout X data",
	} {
		_, err := parseEntry([]byte(line))
		if err == nil {
			t.Errorf("%q is an entry", line)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("2025-01-02T03:04:05.000000006Z stdout F some text"))
	f.Add([]byte("2025-01-02T03:04:05Z stderr P "))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, err := parseEntry(line)
		if err != nil || bytes.IndexByte(line, '\n') >= 0 {
			return
		}
		again, err := parseEntry(bytes.TrimSuffix(appendEntry(nil, e), []byte{'\n'}))
		if err != nil || !again.Time.Equal(e.Time) || again.Stream != e.Stream || !bytes.Equal(again.Data, e.Data) || again.Newline != e.Newline {
			t.Errorf("%+v becomes %+v, %v", e, again, err)
		}
	})
}
