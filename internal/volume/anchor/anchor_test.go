// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cofferdam.dev/internal/volume/shadow"
)

func record(generation uint64) shadow.Record {
	return shadow.Record{Volume: [16]byte{0xab}, Generation: generation, Digest: [32]byte{byte(generation), 1}}
}

func newDir(t *testing.T) *Dir {
	t.Helper()
	d, err := NewDir(filepath.Join(t.TempDir(), "anchors"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// behaves is what every anchor does.
func behaves(t *testing.T, a shadow.Anchor) {
	t.Helper()
	ctx := t.Context()
	if _, err := a.Load(ctx, record(1).Volume); !errors.Is(err, shadow.ErrNoRecord) {
		t.Errorf("a volume without record: %v", err)
	}
	for _, step := range []struct {
		name      string
		was, next shadow.Record
		want      error
	}{
		{"a record that is none", shadow.Record{}, shadow.Record{}, ErrBackwards},
		{"the first from what is not there", record(1), record(2), shadow.ErrMoved},
		{"the first", shadow.Record{}, record(1), nil},
		{"the first again", shadow.Record{}, record(2), shadow.ErrMoved},
		{"the next", record(1), record(2), nil},
		{"from what it is no more", record(1), record(3), shadow.ErrMoved},
		{"back", record(2), record(1), ErrBackwards},
		{"the same", record(2), record(2), ErrBackwards},
		{"another volume", record(2), shadow.Record{Volume: [16]byte{1}, Generation: 3, Digest: [32]byte{1}}, ErrBackwards},
		{"further", record(2), record(9), nil},
	} {
		if err := a.Move(ctx, step.was, step.next); !errors.Is(err, step.want) || step.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
	}
	if r, err := a.Load(ctx, record(1).Volume); err != nil || r != record(9) {
		t.Errorf("%+v (%v)", r, err)
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	behaves(t, d)
	for _, name := range []string{d.path, d.file(record(1).Volume)} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v (%v)", name, info.Mode(), err)
		}
	}
	if _, err := NewDir(""); err == nil {
		t.Error("no directory is one")
	}
}

// Of several who move a record from the same state, one does.
func TestRace(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	ctx := t.Context()
	if err := d.Move(ctx, shadow.Record{}, record(1)); err != nil {
		t.Fatal(err)
	}
	for g := uint64(1); g < 20; g++ {
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				err := d.Move(ctx, record(g), record(g+1))
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, shadow.ErrMoved) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d moved it", won.Load())
		}
	}
}

// A file that is not what was written is an error, never an older record or none.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	d := newDir(t)
	if err := d.Move(context.Background(), shadow.Record{}, record(1)); err != nil {
		t.Fatal(err)
	}
	name := d.file(record(1).Volume)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"empty":           "",
		"cut":             string(good[:len(good)-5]),
		"another volume":  strings.Replace(string(good), "ab00", "ac00", 1),
		"another version": strings.Replace(string(good), "anchor/v1", "anchor/v2", 1),
		"no generation":   strings.Replace(string(good), `"generation":"1"`, `"generation":"0"`, 1),
		"a sign":          strings.Replace(string(good), `"generation":"1"`, `"generation":"+1"`, 1),
		"twice":           strings.Replace(string(good), `{`, `{"generation":"7",`, 1),
		"large":           string(good) + strings.Repeat(" ", maxRecord),
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := d.Load(t.Context(), record(1).Volume); err == nil || errors.Is(err, shadow.ErrNoRecord) || r != (shadow.Record{}) {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
		if err := d.Move(t.Context(), shadow.Record{}, record(2)); err == nil || errors.Is(err, shadow.ErrMoved) {
			t.Errorf("%s is moved: %v", what, err)
		}
	}
}

func FuzzRecord(f *testing.F) {
	f.Add([]byte(`{"schema":"cofferdam.dev/volume-anchor/v1","volume":"ab000000000000000000000000000000","generation":"1","digest":"` + strings.Repeat("01", 32) + `"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b, [16]byte{0xab})
		if err == nil && (r.Generation == 0 || r.Volume != [16]byte{0xab}) || err != nil && r != (shadow.Record{}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
}
