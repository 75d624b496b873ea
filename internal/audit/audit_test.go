// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustOpen(t testing.TB, dir string, opts Options) *Log {
	t.Helper()
	opts.Instance = "test"
	l, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

type thing struct {
	N int `json:"n"`
}

func appendN(t testing.TB, l *Log, from, to int) []Receipt {
	t.Helper()
	var list []Receipt
	for i := from; i < to; i++ {
		r, err := l.Append(t.Context(), "thing", thing{i})
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func verify(t testing.TB, dir string, key *ecdsa.PublicKey) (*Summary, error) {
	t.Helper()
	v, err := NewVerifier([]*ecdsa.PublicKey{key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(filepath.Base(n), bytes.NewReader(b)); err != nil {
			return nil, err
		}
	}
	return v.Summary()
}

// TestLog writes over several openings and files, and finds all of it again.
func TestLog(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("x", 3600))
	opts := Options{Key: key, Now: func() time.Time { return now }, CheckpointEvery: 5, MaxFileSize: 4000}
	var receipts []Receipt
	for i := range 4 {
		l := mustOpen(t, dir, opts)
		receipts = append(receipts, appendN(t, l, 10*i, 10*i+10)...)
		mustClose(t, l)
	}
	s, err := verify(t, dir, &key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	names, err := Files(dir)
	if err != nil || len(names) < 2 {
		t.Fatalf("there are the files %q, %v", names, err)
	}
	if !s.Complete || s.First != 1 || s.Unsigned != 0 || s.Kinds["thing"] != 40 || s.Kinds[kindOpen] != len(names) ||
		s.Checkpoints < 8 || !s.From.Equal(now) {
		t.Errorf("%+v", s)
	}
	found := map[Receipt]int{}
	v, err := NewVerifier([]*ecdsa.PublicKey{&key.PublicKey}, func(e *Entry) error {
		b, err := e.encode()
		if e.Kind == "thing" {
			found[Receipt{e.Instance, e.Sequence, hashLine(b)}]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(n, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range receipts {
		if found[r] != 1 {
			t.Errorf("receipt %+v names %d entries", r, found[r])
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	l := mustOpen(t, dir, Options{Key: key})
	if _, err := Open(dir, Options{Instance: "test", Key: key}); err == nil {
		t.Error("opened twice")
	}
	for name, c := range map[string]struct {
		kind  string
		event any
	}{
		"own kind": {"audit.open", nil}, "no JSON": {"a", make(chan int)}, "too long": {"a", strings.Repeat("x", MaxLineSize)},
	} {
		if _, err := l.Append(t.Context(), c.kind, c.event); err == nil {
			t.Errorf("%s: it was appended", name)
		}
	}
	appendN(t, l, 0, 1)
	mustClose(t, l)
	if _, err := l.Append(t.Context(), "a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("appending to a closed log: %v", err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"another instance": {Instance: "other", Key: key}, "no instance": {Key: key}, "no key": {Instance: "test"},
		"another curve": {Instance: "test", Key: p384},
	} {
		if _, err := Open(dir, o); err == nil {
			t.Errorf("%s: it was opened", name)
		}
	}
	if _, err := NewVerifier(nil, nil); err == nil {
		t.Error("a verifier without keys")
	}
}

// sample returns a log of two files as text.
func sample(t testing.TB) (names []string, texts [][]byte, key *ecdsa.PrivateKey) {
	t.Helper()
	dir := t.TempDir()
	key = newKey(t)
	l := mustOpen(t, dir, Options{Key: key, CheckpointEvery: 2, MaxFileSize: 900})
	appendN(t, l, 0, 5)
	mustClose(t, l)
	names, err := Files(dir)
	if err != nil || len(names) < 2 {
		t.Fatalf("%q, %v", names, err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, b)
	}
	return names, texts, key
}

func check(t testing.TB, key *ecdsa.PublicKey, names []string, texts [][]byte) (*Summary, error) {
	t.Helper()
	v, err := NewVerifier([]*ecdsa.PublicKey{key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if err := v.File(names[i], bytes.NewReader(text)); err != nil {
			return nil, err
		}
	}
	return v.Summary()
}

// TestEveryByteCounts changes each byte of a log in turn, leaves out each line, and swaps neighbours.
func TestEveryByteCounts(t *testing.T) {
	t.Parallel()
	names, texts, key := sample(t)
	whole, err := check(t, &key.PublicKey, names, texts)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, changed []byte, file int) {
		t.Helper()
		list := append([][]byte{}, texts...)
		list[file] = changed
		var line *LineError
		s, err := check(t, &key.PublicKey, names, list)
		if err == nil && s.Head == whole.Head {
			t.Errorf("%s: it holds", what)
		}
		if err != nil && !errors.As(err, &line) {
			t.Errorf("%s: the error names no line: %v", what, err)
		}
	}
	for file, text := range texts {
		for i := range text {
			changed := bytes.Clone(text)
			changed[i] ^= 1
			refused(fmt.Sprintf("file %d, byte %d", file, i), changed, file)
		}
		lines := bytes.SplitAfter(text, []byte{'\n'})
		for i := range lines[:len(lines)-1] {
			less := append(append([][]byte{}, lines[:i]...), lines[i+1:]...)
			refused(fmt.Sprintf("file %d without line %d", file, i), bytes.Join(less, nil), file)
			if i > 0 {
				swapped := append([][]byte{}, lines...)
				swapped[i], swapped[i-1] = swapped[i-1], swapped[i]
				refused(fmt.Sprintf("file %d, lines %d swapped", file, i), bytes.Join(swapped, nil), file)
			}
		}
	}
	if _, err := check(t, &newKey(t).PublicKey, names, texts); err == nil {
		t.Error("it holds by another key")
	}
	if _, err := check(t, &key.PublicKey, names[1:], texts[:1:1]); err != nil {
		t.Errorf("the first file alone: %v", err)
	}
	if s, err := check(t, &key.PublicKey, names[1:], texts[1:]); err != nil || s.Complete {
		t.Errorf("the end alone: %+v, %v", s, err)
	}
}

// TestIncompleteLine has a crash leave half a line at every possible length.
func TestIncompleteLine(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	dir := t.TempDir()
	l := mustOpen(t, dir, Options{Key: key})
	appendN(t, l, 0, 2)
	mustClose(t, l)
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, extra := range []string{"{", `{"seq":`, strings.Repeat("x", MaxLineSize)} {
		if err := os.WriteFile(names[0], append(bytes.Clone(whole), extra...), 0o600); err != nil {
			t.Fatal(err)
		}
		l := mustOpen(t, dir, Options{Key: key})
		appendN(t, l, 2, 3)
		mustClose(t, l)
		s, err := verify(t, dir, &key.PublicKey)
		if err != nil || s.Kinds["thing"] != 3 {
			t.Errorf("after %.10q: %+v, %v", extra, s, err)
		}
	}
	if err := os.WriteFile(names[0], []byte("no log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{Instance: "test", Key: key}); err == nil {
		t.Error("a file that is no log was opened")
	}
}

// TestMany appends from many goroutines: each gets its own receipt, and the log holds.
func TestMany(t *testing.T) {
	t.Parallel()
	dir, key := t.TempDir(), newKey(t)
	l := mustOpen(t, dir, Options{Key: key, CheckpointEvery: 50})
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				r, err := l.Append(context.Background(), "thing", thing{i})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if seen[r.Sequence] {
					t.Errorf("sequence number %d twice", r.Sequence)
				}
				seen[r.Sequence] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	mustClose(t, l)
	s, err := verify(t, dir, &key.PublicKey)
	if err != nil || s.Kinds["thing"] != 320 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestWriteFails takes the file away under the log: the append fails, and so does every later one.
func TestWriteFails(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, t.TempDir(), Options{Key: newKey(t)})
	appendN(t, l, 0, 1)
	if err := l.file.f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := l.Append(t.Context(), "thing", thing{}); err == nil {
			t.Error("it was appended to a file that is closed")
		}
	}
	if l.Close() == nil {
		t.Error("closing says nothing")
	}
}

// TestMain is also the process that TestKill kills.
func TestMain(m *testing.M) {
	dir := os.Getenv("AUDIT_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{1}, 32))
	if err != nil {
		panic(err)
	}
	l, err := Open(dir, Options{Instance: "test", Key: key, CheckpointEvery: 7, MaxFileSize: 3000})
	if err != nil {
		panic(err)
	}
	for {
		r, err := l.Append(context.Background(), "thing", thing{})
		if err != nil {
			panic(err)
		}
		fmt.Println(r.Sequence, r.Hash)
	}
}

// TestKill kills the writer at random times: each acknowledged line is there, and the chain holds.
func TestKill(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("takes seconds")
	}
	dir := t.TempDir()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	acknowledged := map[Receipt]bool{}
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "AUDIT_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for n := 0; ; n++ {
			r := Receipt{Instance: "test"}
			if _, err := fmt.Fscanln(out, &r.Sequence, &r.Hash); err != nil || len(r.Hash) != 64 {
				break
			}
			acknowledged[r] = true
			if n == 0 { // it works, however long it took to start
				time.AfterFunc(time.Duration(17*round)*time.Millisecond, func() { _ = cmd.Process.Kill() }) // killed is the point
			}
		}
		_, _ = io.Copy(io.Discard, out) // what was cut off
		_ = cmd.Wait()                  // it was killed
	}
	l := mustOpen(t, dir, Options{Key: key, CheckpointEvery: 7, MaxFileSize: 3000})
	mustClose(t, l)
	found := map[Receipt]bool{}
	v, err := NewVerifier([]*ecdsa.PublicKey{&key.PublicKey}, func(e *Entry) error {
		b, err := e.encode()
		found[Receipt{e.Instance, e.Sequence, hashLine(b)}] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.File(n, bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
	}
	missing := 0
	for r := range acknowledged {
		if !found[r] {
			missing++
		}
	}
	if missing > 0 || len(acknowledged) == 0 {
		t.Errorf("%d of %d acknowledged lines are missing", missing, len(acknowledged))
	}
}

func FuzzVerify(f *testing.F) {
	names, texts, key := sample(f)
	for _, t := range texts {
		f.Add(t)
	}
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := check(t, &key.PublicKey, names, [][]byte{b})
		if err == nil && s.Checkpoints > 0 && !bytes.Contains(bytes.Join(texts, nil), b) {
			t.Errorf("a log that was never written holds: %q", b)
		}
	})
}

func TestKeyID(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	a, errA := KeyID(key)
	b, errB := publicKeyID(&key.PublicKey)
	if diff := cmp.Diff(a, b); diff != "" || errA != nil || errB != nil || len(a) != 64 {
		t.Error(diff, errA, errB, a)
	}
}

// TestCheckpointInTime signs entries of a process that may die at any time, and a log keeps its name.
func TestCheckpointInTime(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l, err := open(dir, Options{NewInstance: "first", Key: key}, 10*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), "thing", 1); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(dir, "00000001.jsonl"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(kindCheckpoint)) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no checkpoint")
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(dir, Options{NewInstance: "second", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := again.Append(t.Context(), "thing", 2); err != nil || r.Instance != "first" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := again.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := again.Ready(t.Context()); err == nil {
		t.Error("a closed log is ready")
	}
	if _, err := Open(t.TempDir(), Options{Key: key}); err == nil {
		t.Error("a log without a name")
	}
}
