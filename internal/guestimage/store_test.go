// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFindTakesOnlyTheSameInputs(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	ctx := context.Background()
	inputs := []Input{{Name: "agent", SHA256: "1"}, {Name: "mke2fs", Version: "1.47"}}
	img := fakeImage(t, b, "a", inputs...)
	fakeImage(t, b, "b", Input{Name: "agent", SHA256: "2"})
	got, ok := b.find(ctx, inputs)
	if !ok || got.Dir() != img.Dir() {
		t.Errorf("found %v %v, want %s", got, ok, img.Dir())
	}
	for name, other := range map[string][]Input{
		"none":          nil,
		"fewer":         inputs[:1],
		"other digest":  {{Name: "agent", SHA256: "3"}, inputs[1]},
		"other version": {inputs[0], {Name: "mke2fs", Version: "1.48"}},
	} {
		if got, ok := b.find(ctx, other); ok {
			t.Errorf("%s: found %s", name, got.Dir())
		}
	}
}

func TestDamagedImageIsMadeAgain(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	ctx := context.Background()
	input := Input{Name: "agent", SHA256: "1"}
	img := fakeImage(t, b, "a", input)
	if err := os.WriteFile(filepath.Join(img.Dir(), FileInitrd), []byte("initrd.cpio b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := b.find(ctx, []Input{input}); ok {
		t.Fatal("an image with a damaged file was taken")
	}
	again := fakeImage(t, b, "a", input)
	if again.Dir() != img.Dir() {
		t.Errorf("made again in %s, want %s", again.Dir(), img.Dir())
	}
	if err := again.Verify(ctx); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	now := time.Now()
	var dirs []string
	for i, word := range []string{"current", "1", "2", "3", "4"} {
		img := fakeImage(t, b, word)
		if i == 0 {
			if err := b.setCurrent(img.Dir()); err != nil {
				t.Fatal(err)
			}
		}
		at := now.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(img.Dir(), at, at); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, filepath.Base(img.Dir()))
	}
	for _, name := range []string{tempPrefix + "left", "cache", "lock"} {
		if err := os.MkdirAll(filepath.Join(b.guest, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.prune(); err != nil {
		t.Fatal(err)
	}
	found, err := os.ReadDir(b.guest)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, f.Name())
	}
	want := []string{dirs[0], dirs[3], dirs[4], "cache", "current", "lock"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("left are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	unlock, err := lockDir(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := lockDir(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("a held lock: %v, want the context's end", err)
	}
	unlock()
	unlock, err = lockDir(context.Background(), dir)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	unlock()
}
